"""Containers from pushed bundles, on real runc: what the image says, layers of their own, and bundles that stay while they are used."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundles.conftest import push
from corral import Client, ContainerSpec, CorralError, InvalidError, pack_bundle
from corral.bundle.pack import pack
from corral.bundle.sources import DirectorySource
from corral.sync.container import Container
from corral_schemas.bundles import ImageConfig
from corral_testkit.system import CorralSystem
from corral_testkit.trees import described

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]
IMAGE = ImageConfig(env=["PATH=/bin", "COLOUR=blue"], entrypoint=["sh", "-c"], cmd=["echo from cmd"], user="7:8", cwd="/etc")


@pytest.fixture
def image(system: CorralSystem, client: Client) -> str:
    """A busybox image in the first guest, with a configuration."""
    push(client, system.names[0], pack(DirectorySource(system.rootfs), IMAGE), "bb:1")
    return "bb:1"


def ended(container: Container) -> tuple[int | None, str]:
    """Its exit code and what it wrote to stdout; it is deleted."""
    exit = container.wait(30)
    said = container.init.stdout.read().decode()
    container.delete()
    return exit.code, said


def run(client: Client, system: CorralSystem, **spec: object) -> tuple[int | None, str]:
    return ended(client.guest(system.names[0]).run(spec=ContainerSpec(**spec)))  # type: ignore[arg-type]


def test_a_container_runs_what_the_image_says(system: CorralSystem, client: Client, image: str) -> None:
    assert run(client, system, image=image) == (0, "from cmd\n")
    say_all = "echo $COLOUR; id -u; id -g; pwd"
    assert run(client, system, image=image, args=[say_all]) == (0, "blue\n7\n8\n/etc\n")
    assert run(client, system, image=image, args=[say_all], env=["COLOUR=red"], user="0", cwd="/") == (0, "red\n0\n0\n/\n")
    assert run(client, system, image=image, entrypoint=["echo"], args=["mine"]) == (0, "mine\n")
    assert run(client, system, image=image, entrypoint=[], args=["pwd"]) == (0, "/etc\n")
    with pytest.raises(CorralError, match="bad_request"):
        run(client, system, image=image, entrypoint=[])


def test_an_image_goes_by_name_by_digest_and_by_both(system: CorralSystem, client: Client, image: str) -> None:
    digest = client.guest(system.names[0]).bundles.inspect(image).bundle.digest
    push(client, system.names[0], pack(DirectorySource(system.rootfs), IMAGE), "bb")
    for ref in ("bb:1", "bb", "bb:latest", digest, digest[:19], f"other@{digest}"):
        assert run(client, system, image=ref) == (0, "from cmd\n")
    for ref in ("bb:2", "sha256:" + "0" * 64, f"bb@sha256:{'0' * 64}"):
        with pytest.raises(CorralError, match="bundle_not_found"):
            run(client, system, image=ref)
    with pytest.raises(CorralError, match="bad_request"):
        run(client, system, image="../bb")


def test_what_one_container_writes_no_other_sees_and_the_bundle_stays_as_it_is(system: CorralSystem, client: Client, image: str) -> None:
    guest = client.guest(system.names[0])
    before = described(Path(guest.bundles.inspect(image).rootfs_path))
    writes = "echo mine > /etc/passwd; rm /bin/ls; mkdir /new; cat /etc/passwd; sleep 1000"
    one = guest.run("one", spec=ContainerSpec(image=image, args=[writes], user="0", overlay=True))
    assert next(iter(one.init.stdout.lines())) == b"mine"
    assert run(client, system, image=image, args=["cat /etc/passwd; ls -d /bin/ls /new"], overlay=True)[1] == (
        "root:x:0:0:root:/root:/bin/sh\n/bin/ls\n"
    )
    assert described(Path(guest.bundles.inspect(image).rootfs_path)) == before
    assert "overlay" not in Path("/proc/mounts").read_text().replace("overlay / overlay", ""), "nothing is mounted in the guest"
    one.delete(force=True)
    bundle = system.state_dir(system.names[0]) / "instances" / one.instance / "bundle"
    assert sorted(path.name for path in bundle.iterdir()) == ["config.json", "lower"], "its layer went with it"


def test_an_exec_knows_the_users_that_the_container_has_now_with_their_groups(system: CorralSystem, client: Client) -> None:
    guest = client.guest(system.names[0])
    spec = ContainerSpec(rootfs=str(system.rootfs), args=["sleep", "1000"], overlay=True)
    box = guest.run("box", spec=spec)
    add = "echo added:x:1077:1078::/:/bin/sh >> /etc/passwd; echo helpers:x:1079:added >> /etc/group"
    assert box.run(["sh", "-c", add]).returncode == 0
    for user, expected in (
        ("added", b"1077 1078 1078 1079"),
        ("1077", b"1077 1078 1078 1079"),
        ("added:helpers", b"1077 1079 1079"),
        ("1080", b"1080 0 0"),
    ):
        done = box.run(["sh", "-c", "echo $(id -u) $(id -g) $(id -G)"], user=user)
        assert (done.returncode, done.stdout.strip()) == (0, expected), user
    assert box.run(["sh", "-c", "rm /etc/passwd; mkfifo /etc/passwd"]).returncode == 0
    with pytest.raises(InvalidError, match="no regular file"):
        box.run(["true"], user="added")
    box.delete(force=True)


def test_without_an_overlay_nothing_can_be_written(system: CorralSystem, client: Client, image: str) -> None:
    code, said = run(client, system, image=image, args=["touch /etc/x 2>/dev/null || echo refused; touch /tmp/x"], user="0")
    assert (code, said) == (0, "refused\n")
    code, said = run(client, system, image=image, args=["touch /x && echo $?"], user="0", writable=True)
    assert (code, said) == (0, "0\n"), "writable means a layer too: a bundle is never written to"


def test_an_overlay_over_a_directory_of_the_guest_leaves_the_directory_alone(system: CorralSystem, client: Client) -> None:
    before = described(system.rootfs)
    assert run(client, system, rootfs=str(system.rootfs), args=["sh", "-c", "touch /x && rm /bin/ls && echo ok"], overlay=True) == (
        0,
        "ok\n",
    )
    assert described(system.rootfs) == before


def test_a_layer_outlives_the_worker_and_execs_see_it(system: CorralSystem, client: Client, image: str) -> None:
    made = client.guest(system.names[0]).create(
        "one", spec=ContainerSpec(image=image, args=["touch /x; sleep 1000"], user="0", overlay=True)
    )
    system.restart_worker(system.names[0])
    made.start()
    assert made.run(["sh", "-c", "until ls /x; do sleep 0.1; done"]).stdout == b"/x\n"
    assert client.guest(system.names[0]).bundles.inspect(image).bundle.used_by == ["one"]
    made.delete(force=True)


def test_a_bundle_in_use_is_kept_by_rm_and_gc_until_its_last_container_is_deleted(system: CorralSystem, client: Client, image: str) -> None:
    guest = client.guest(system.names[0])
    holder = guest.create("holder", spec=ContainerSpec(image=image, args=["true"]))
    with pytest.raises(CorralError, match=r"bundle_in_use.*holder"):
        guest.bundles.remove(image)
    assert guest.bundles.collect(named=True, idle_s=0).removed == []
    system.restart_worker(system.names[0])
    assert guest.bundles.collect(named=True, idle_s=0).removed == []
    digest = guest.bundles.inspect(image).bundle.digest
    holder.start()
    holder.wait(30)
    holder.delete()
    removed = guest.bundles.remove(image)
    assert removed.removed == [digest] and removed.untagged == [image] and removed.freed_bytes > 1 << 20
    with pytest.raises(CorralError, match="bundle_not_found"):
        guest.create("other", spec=ContainerSpec(image=image))


def test_a_name_goes_before_the_bundle_and_moves_to_the_newest_push(
    system: CorralSystem, client: Client, image: str, tmp_path: Path
) -> None:
    guest = client.guest(system.names[0])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    push(client, system.names[0], pack(DirectorySource(system.rootfs), IMAGE), "second")
    removed = guest.bundles.remove("second")
    assert (removed.removed, removed.untagged) == ([], ["second:latest"])
    with pack_bundle(tmp_path / "other") as other:
        push(client, system.names[0], other, image)
    found = {one.digest: one.names for one in guest.bundles.list().bundles}
    assert sorted(found.values()) == [[], [image]] and found[other.digest] == [image]
    assert guest.bundles.collect().removed == [digest for digest, names in found.items() if not names]


@pytest.fixture
def without_overlays(rootfs: Path, tmp_path: Path) -> Iterator[CorralSystem]:
    """A guest with no `mount` to make an overlay with."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("runc", "sh"):
        found = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        assert found is not None
        (programs / name).symlink_to(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(programs))
        with CorralSystem(guests=1, rootfs=rootfs) as system:
            patch.undo()
            yield system


def test_where_there_are_no_overlays_each_container_gets_a_copy(without_overlays: CorralSystem) -> None:
    client, system = without_overlays.client(), without_overlays
    push(client, system.names[0], pack(DirectorySource(system.rootfs), IMAGE), "bb:1")
    guest = client.guest(system.names[0])
    before = described(Path(guest.bundles.inspect("bb:1").rootfs_path))
    made = guest.run(spec=ContainerSpec(image="bb:1", args=["rm /bin/ls && touch /x && echo ok"], user="0", overlay=True))
    layer = Path(made.state().rootfs_path)
    assert made.wait(30).code == 0
    assert (layer / "x").exists() and not (layer / "bin" / "ls").exists()
    assert described(Path(guest.bundles.inspect("bb:1").rootfs_path)) == before
    made.delete()
    assert not layer.exists()


@pytest.fixture(scope="session")
def layout(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI image layout made by umoci from busybox: two layers, the second of which removes a file of the first."""
    if shutil.which("umoci") is None or shutil.which("skopeo") is None:
        pytest.skip("umoci and skopeo are not installed")
    place = tmp_path_factory.mktemp("oci")
    made, bundle = place / "layout", place / "bundle"

    def umoci(*args: object) -> None:
        subprocess.run(["umoci", *map(str, args)], check=True, capture_output=True)

    umoci("init", "--layout", made)
    umoci("new", "--image", f"{made}:base")
    umoci("insert", "--image", f"{made}:base", rootfs, "/")
    umoci("unpack", "--image", f"{made}:base", bundle)
    (bundle / "rootfs" / "bin" / "ls").unlink()
    (bundle / "rootfs" / "etc" / "release").write_text("2\n")
    umoci("repack", "--image", f"{made}:2", bundle)
    umoci(
        "config", "--image", f"{made}:2", "--config.env", "PATH=/bin", "--config.env", "COLOUR=green", "--config.entrypoint", "cat",
        "--config.cmd", "release", "--config.user", "root", "--config.workingdir", "/etc",
    )  # fmt: skip
    return made


def test_an_image_of_an_oci_layout_runs_as_it_says(system: CorralSystem, client: Client, layout: Path) -> None:
    with pack_bundle(f"{layout}:2") as bundle:
        push(client, system.names[0], bundle, "oci:2")
    assert bundle.image == ImageConfig(env=["PATH=/bin", "COLOUR=green"], entrypoint=["cat"], cmd=["release"], user="root", cwd="/etc")
    assert run(client, system, image="oci:2") == (0, "2\n")
    shell = {"entrypoint": ["sh", "-c"], "args": ["echo $COLOUR; test -e /bin/ls || echo gone"]}
    assert run(client, system, image="oci:2", **shell) == (0, "green\ngone\n")


def test_a_layout_with_several_images_wants_a_tag_and_its_archive_is_taken_too(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(CorralError, match="say which"), pack_bundle(layout):
        pass
    with pytest.raises(CorralError, match="no image '3'"), pack_bundle(f"{layout}:3"):
        pass
    archive = tmp_path / "image.tar"
    subprocess.run(["skopeo", "copy", "--quiet", f"oci:{layout}:2", f"oci-archive:{archive}"], check=True)
    with pack_bundle(archive) as of_archive, pack_bundle(f"{layout}:2") as of_layout:
        assert of_archive.image == of_layout.image
        assert of_archive.entries == of_layout.entries
