#!/usr/bin/env bash
# skopeo drops an image's health check when it converts docker's format to OCI's, without a word and with status 0.
#
# Versions:     Debian 12's skopeo 1.9.3+ds1-1+b10 (amd64).
# Behaviour:    a docker-archive (what `docker save` writes) with HEALTHCHECK, STOPSIGNAL, ONBUILD and SHELL in its config; `skopeo copy docker-archive:… oci:…`.
# Seen:         the OCI config keeps StopSignal; Healthcheck, OnBuild and Shell are gone. Status 0, nothing on stderr. Copied to `dir:`, which
#               keeps docker's format, all four are there.
# A good guess: the specification allows fields beside its own, so they are kept; or there is a warning.
# It matters:   a service whose image brings its own check runs unchecked after one copy. Read the config before the conversion.
set -euo pipefail
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
mkdir -p archives/partial root
touch status
apt-get -qq -o APT::Sandbox::User=root -o Debug::NoLocking=true -o Dir::State::status="$temp/status" -o Dir::Cache::archives="$temp/archives" \
  install --yes --download-only --no-install-recommends skopeo=1.9.3+ds1-1+b10 >apt.log 2>&1 || { cat apt.log; exit 2; }
for package in archives/*.deb; do dpkg-deb -x "$package" root; done
skopeo() {
  root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path root/lib/x86_64-linux-gnu:root/usr/lib/x86_64-linux-gnu root/usr/bin/skopeo "$@"
}
python3 - <<'PYTHON'
import hashlib
import io
import json
import tarfile


def tar(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


layer = tar({"hello": b"hello\n"})
config = {
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "Cmd": ["/hello"],
        "Healthcheck": {"Test": ["CMD", "/check"], "Interval": 5_000_000_000},
        "StopSignal": "SIGINT",
        "OnBuild": ["RUN true"],
        "Shell": ["/bin/bash", "-c"],
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    "history": [{"created_by": "by hand"}],
}
text = json.dumps(config).encode()
name = hashlib.sha256(text).hexdigest() + ".json"
manifest = json.dumps([{"Config": name, "RepoTags": ["example:1"], "Layers": ["layer.tar"]}]).encode()
with open("image.tar", "wb") as image:
    image.write(tar({"manifest.json": manifest, name: text, "layer.tar": layer}))
PYTHON
skopeo --version
skopeo --insecure-policy copy --quiet docker-archive:image.tar oci:layout:1 2>said
skopeo --insecure-policy copy --quiet docker-archive:image.tar dir:docker 2>/dev/null
python3 - <<'PYTHON'
import json
import pathlib
import sys

ASKED = ["Healthcheck", "OnBuild", "Shell", "StopSignal"]


def kept(manifest: dict, blob) -> list[str]:
    config = json.loads(blob(manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    return sorted(set(config["config"]) & set(ASKED))


layout = pathlib.Path("layout")
index = json.loads((layout / "index.json").read_text())
blobs = layout / "blobs" / "sha256"
oci = kept(json.loads((blobs / index["manifests"][0]["digest"].removeprefix("sha256:")).read_text()), blobs.joinpath)
docker = kept(json.loads(pathlib.Path("docker/manifest.json").read_text()), pathlib.Path("docker").joinpath)
said = pathlib.Path("said").read_text()
print(f"oci: keeps {oci}; dir: keeps {docker}; said: {said or 'nothing'}")
if oci != ["StopSignal"] or docker != ASKED or said:
    sys.exit("CHANGED: skopeo keeps other parts of the config")
print("as described")
PYTHON
