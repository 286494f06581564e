#!/usr/bin/env bash
# The fish completion that click 8.4.0 and 8.4.1 generate offers nothing and prints errors at every Tab: a line break stands in the script unquoted.
#
# Versions:     click 8.4.0, 8.4.1; 8.3.1 and 8.4.2 beside them. Debian 12's fish 3.6.0-3.1+deb12u1 or newer.
# Behaviour:    an app with the commands `start` and `stop` generates its completion; fish sources it, and is asked to complete `app st`.
# Seen:         8.4.0 and 8.4.1: `string split: missing argument`, no word. `fish --no-execute` finds no fault in the same script. 8.3.1, 8.4.2: start, stop.
# A good guess: a script that fish accepts completes, and a minor release of click leaves the shells as they were.
# It matters:   a check of syntax passes; only a completion asked of a real fish shows it. Exclude both releases.
set -euo pipefail
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cat >"$temp/app" <<PYTHON
#!/usr/bin/env python3
import click


@click.group()
def app() -> None: ...


for name in ("start", "stop"):
    app.command(name)(lambda: None)
app(prog_name="app")
PYTHON
chmod +x "$temp/app"
(
  cd "$temp"
  apt-get -qq -o APT::Sandbox::User=root download fish fish-common libpcre2-32-0
  for package in *.deb; do dpkg-deb -x "$package" root; done
)
export HOME=$temp XDG_CONFIG_HOME=$temp XDG_DATA_HOME=$temp LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(dirname "$(find "$temp/root" -name 'libpcre2-32.so.0')")
fish=$temp/root/usr/bin/fish
"$fish" --version
for version in 8.3.1 8.4.0 8.4.1 8.4.2; do
  python3 -m venv "$temp/$version"
  "$temp/$version/bin/pip" --quiet --disable-pip-version-check install "click==$version" 2>"$temp/pip.log" || { cat "$temp/pip.log"; exit 2; }
  path="$temp/$version/bin:$temp:$PATH"
  PATH=$path _APP_COMPLETE=fish_source app >"$temp/app.fish"
  "$fish" --no-config --no-execute "$temp/app.fish" || { echo "CHANGED: fish sees a fault in the script"; exit 1; }
  words=$(PATH=$path "$fish" --no-config --command "source $temp/app.fish; complete --do-complete='app st'" 2>"$temp/errors" | tr '\n' ' ')
  errors=$(grep -c 'string split: missing argument' "$temp/errors" || true)
  echo "click $version: offers [$words], errors: $errors"
  case "$version:$words:$errors" in
  8.4.[01]::[1-9]* | 8.3.1:"start stop ":0 | 8.4.2:"start stop ":0) ;;
  *) echo "CHANGED: click $version completes otherwise in fish"; exit 1 ;;
  esac
done
echo "as described"
