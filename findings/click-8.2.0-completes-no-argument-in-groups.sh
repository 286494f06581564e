#!/usr/bin/env bash
# click 8.2.0 completes no argument of a command in a nested group: nothing is offered after `app context use loc`, in any shell.
#
# Versions:     click 8.2.0; 8.1.8 and 8.2.1 beside it.
# Behaviour:    an app with a group `context`, its command `use` and an argument of two choices is asked, as bash's completion asks, for words after
#               `app cont`, `app context u` and `app context use loc`.
# Seen:         8.2.0 offers `context` and `use`, but an empty line for the third, with status 0. 8.1.8 and 8.2.1 offer `local` too.
# A good guess: a bound such as click>=8.2 admits only releases whose completion works.
# It matters:   nothing fails and no test that calls commands sees it; the first user who presses Tab does. The bound has to be 8.2.1.
set -euo pipefail
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cat >"$temp/app.py" <<'PYTHON'
import click


@click.group()
def app() -> None: ...


@app.group()
def context() -> None: ...


@context.command()
@click.argument("name", type=click.Choice(["local", "remote"]))
def use(name: str) -> None: ...


app(prog_name="app")
PYTHON
offered() { # offered VERSION LINE: what Tab offers after the line's last word
  read -ra words <<<"$2"
  _APP_COMPLETE=bash_complete COMP_WORDS=$2 COMP_CWORD=$((${#words[@]} - 1)) "$temp/$1/bin/python" "$temp/app.py" | tr '\n' ' '
}
for version in 8.1.8 8.2.0 8.2.1; do
  python3 -m venv "$temp/$version"
  "$temp/$version/bin/pip" --quiet --disable-pip-version-check install "click==$version" 2>"$temp/pip.log" || { cat "$temp/pip.log"; exit 2; }
  seen="[$(offered $version 'app cont')] [$(offered $version 'app context u')] [$(offered $version 'app context use loc')]"
  echo "click $version: $seen"
  expected="[plain,context ] [plain,use ] [plain,local ]"
  [ $version != 8.2.0 ] || expected="[plain,context ] [plain,use ] [ ]"
  [ "$seen" = "$expected" ] || { echo "CHANGED: click $version completes otherwise"; exit 1; }
done
echo "as described"
