"""uv installs from where pip would: what pip was told is told to uv."""

from corral_lock.pip_settings import for_uv

INDEX = "https://packages.example/simple"


def test_a_machine_on_which_pip_was_told_nothing_tells_uv_nothing() -> None:
    assert for_uv("", {}) == {}


def test_an_index_of_pip_is_uvs_too() -> None:
    assert for_uv(f"global.index-url='{INDEX}'\nglobal.trusted-host='packages.example'\n", {}) == {
        "UV_DEFAULT_INDEX": INDEX,
        "UV_INSECURE_HOST": "packages.example",
    }


def test_the_environment_is_stronger_than_files_and_install_than_global() -> None:
    lines = [f":env:.index-url='{INDEX}/env'", f"install.index-url='{INDEX}/install'", f"global.index-url='{INDEX}/global'"]
    assert for_uv("\n".join(lines), {}) == {"UV_DEFAULT_INDEX": f"{INDEX}/env"}
    assert for_uv("\n".join(lines[1:]), {}) == {"UV_DEFAULT_INDEX": f"{INDEX}/install"}


def test_what_uv_was_told_itself_stays() -> None:
    said = f":env:.index-url='{INDEX}'\nglobal.cert='/etc/ca.pem'\n"
    assert for_uv(said, {"UV_INDEX_URL": "https://other.example/simple"}) == {"SSL_CERT_FILE": "/etc/ca.pem"}


def test_a_directory_of_wheels_without_any_index_works_too() -> None:
    assert for_uv(":env:.no-index='1'\n:env:.find-links='/wheels /more'\n", {}) == {"UV_OFFLINE": "1", "UV_FIND_LINKS": "/wheels /more"}


def test_settings_that_uv_has_no_word_for_are_left_out() -> None:
    assert for_uv("global.default-timeout='180'\nwhat is this\ndownload.index-url='x'\n", {}) == {}
