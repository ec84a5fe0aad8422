"""Pulling from a server that misbehaves: the right end, one clear line, no half file."""

from __future__ import annotations

import json
import socket
import ssl
import time
import urllib.error
from types import SimpleNamespace

import pytest

from adafocus_cli.files import sha256_of
from adafocus_cli.library import download
from adafocus_cli.library.store import ModelStore
from adafocus_cli.weights_file import read_about
from tests.library.conftest import file, reply

PATH = "/tiny.safetensors"


def left_over(home):
    """Files beside those of installed models and locks."""
    return [path for path in (home / "downloads").rglob("*") if path.is_file()]


def test_a_model_is_downloaded_checked_and_installed(pull, server, store, home, tiny_file, adafocus):
    server.answers[PATH] = file(tiny_file.read_bytes())
    outcome = pull()
    assert (outcome.code, outcome.out) == (0, "")
    assert "tiny is installed" in outcome.err
    assert store.installed() == ["tiny"]
    assert store.state_of("tiny") == "intact"
    assert store.record_of("tiny").url == server.url(PATH)
    assert list((home / "downloads").iterdir()) == []

    again = pull()
    assert again.code == 0
    assert "already" in again.err
    assert len(server.asked) == 1


def test_a_broken_download_is_continued_where_it_broke(pull, server, store, tiny_file):
    content = tiny_file.read_bytes()
    server.answers[PATH] = file(content, break_after=10_000)
    assert pull().code == 0
    assert [range_ for _, range_ in server.asked] == [None, "bytes=10000-"]
    assert store.state_of("tiny") == "intact"


def test_it_is_continued_by_a_later_run_too(pull, server, tiny_file, monkeypatch):
    monkeypatch.setattr(download, "PAUSES", ())
    server.answers[PATH] = file(tiny_file.read_bytes(), break_after=10_000)
    broken = pull()
    assert broken.code == 1
    assert "broke off after 10000 of" in broken.error
    assert "run the same command again to resume" in broken.error
    assert pull().code == 0
    assert server.asked[-1] == (PATH, "bytes=10000-")


def test_a_server_that_ignores_ranges_starts_anew(pull, server, store, tiny_file):
    server.answers[PATH] = file(tiny_file.read_bytes(), break_after=10_000, ranges=False)
    assert pull().code == 0
    assert store.state_of("tiny") == "intact"


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changes_meanwhile_is_not_mixed(pull, server, store, tiny_file, heeds_if_range):
    content = tiny_file.read_bytes()
    old, new = file(b"x" * len(content), break_after=10_000, etag='"old"'), file(content, etag='"new"')

    def answer(handler):
        if len(server.asked) == 1:
            return old(handler)
        if not heeds_if_range:
            handler.headers.replace_header("If-Range", '"new"') if "If-Range" in handler.headers else None
        return new(handler)

    server.answers[PATH] = answer
    assert pull().code == 0
    assert store.state_of("tiny") == "intact"


def test_a_server_that_breaks_off_and_calls_the_file_another_each_time_is_given_up(pull, server, tiny_file):
    content = tiny_file.read_bytes()

    def answer(handler):
        reply(handler, 200, content[:10_000], Content_Length=str(len(content)), ETag=f'"{len(server.asked)}"')

    def changed(handler):
        headers = {"Content_Range": f"bytes 10000-{len(content) - 1}/{len(content)}", "ETag": f'"{len(server.asked)}"'}
        reply(handler, 206, content[10_000:], **headers)

    server.answers[PATH] = lambda handler: (changed if handler.headers.get("Range") else answer)(handler)
    outcome = pull()
    assert outcome.code == 1
    assert "cannot be downloaded" in outcome.error or "broke off" in outcome.error
    assert len(server.asked) <= 4


def test_what_cannot_be_told_apart_is_not_continued(pull, server, tiny_file):
    content = tiny_file.read_bytes()

    def answer(handler):
        reply(handler, 200, content[: 10_000 if len(server.asked) == 1 else None], Content_Length=str(len(content)))

    server.answers[PATH] = answer
    assert pull().code == 0
    assert [range_ for _, range_ in server.asked] == [None, None]


def test_a_length_that_is_never_reached(pull, server, home):
    server.answers[PATH] = lambda handler: reply(handler, 200, b"x" * 500, Content_Length="1000")
    outcome = pull()
    assert outcome.code == 1
    assert "the connection was closed early" in outcome.error
    assert len(server.asked) == 3
    assert not (home / "models" / "tiny.safetensors").exists()


def test_a_length_that_is_too_short(pull, server, home, tiny_file):
    content = tiny_file.read_bytes()
    server.answers[PATH] = lambda handler: reply(handler, 200, content, Content_Length=str(len(content) - 100))
    outcome = pull()
    assert outcome.code == 1
    assert "damaged" in outcome.error
    assert not left_over(home)


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"PK\x03\x04" + b"x" * 5000, b"\x00" * 4096])
def test_garbage_is_never_installed(pull, server, store, home, content):
    server.answers[PATH] = file(content)
    outcome = pull()
    assert outcome.code == 1
    assert "damaged" in outcome.error
    assert store.installed() == []
    assert not left_over(home)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_told_from_a_file(pull, server, home, kind):
    page = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
    server.answers[PATH] = lambda handler: reply(handler, 200, page, Content_Type=kind)
    outcome = pull()
    assert outcome.code == 1
    assert "a web page instead of the file; download tiny.safetensors from https://example.org/models" in outcome.error
    assert "adafocus models add tiny.safetensors --name tiny" in outcome.error
    assert not left_over(home)


def test_a_changed_file_is_refused_until_accepted(pull, server, store, tiny_file, adafocus):
    content = tiny_file.read_bytes()
    server.answers[PATH] = file(content)
    pull()
    first = store.record_of("tiny").source_sha256
    assert adafocus("models", "remove", "tiny").code == 0

    changed = content[:-1] + bytes([content[-1] ^ 1])
    server.answers[PATH] = file(changed)
    outcome = pull()
    assert outcome.code == 1
    assert first in outcome.error
    assert "--accept-changed" in outcome.error
    assert not store.has("tiny")

    assert pull("--accept-changed").code == 0
    assert store.record_of("tiny").source_sha256 != first


def test_a_hash_in_the_catalogue_must_be_met(pull, server, store, tiny_file, catalogue_file):
    server.answers[PATH] = file(tiny_file.read_bytes())
    text = catalogue_file.read_text()
    catalogue_file.write_text(text.replace("{name: tiny,", f"{{name: tiny, sha256: '{'0' * 64}',"))
    outcome = pull("--accept-changed")
    assert outcome.code == 1
    assert "is not the file of the catalogue" in outcome.error
    assert store.installed() == []


def test_redirects_are_followed_on_this_machine(pull, server, store, tiny_file):
    server.answers[PATH] = lambda handler: reply(handler, 302, b"", Location=server.url("/moved"))
    server.answers["/moved"] = file(tiny_file.read_bytes())
    assert pull().code == 0


@pytest.mark.parametrize("place", ["http://example.org/x", "ftp://example.org/x", "file:///etc/passwd"])
def test_redirects_to_where_anybody_can_listen_are_refused(pull, server, place):
    server.answers[PATH] = lambda handler: reply(handler, 302, b"", Location=place)
    outcome = pull()
    assert outcome.code == 1
    assert "refused" in outcome.error or "302" in outcome.error
    assert len(server.asked) == 1


def test_https_may_not_lead_to_http_even_here():
    with pytest.raises(download.DownloadError, match="not https; refused"):
        download.check_address("http://127.0.0.1/x", redirected_from="https://example.org/x")


@pytest.mark.parametrize(
    ("status", "requests", "words"),
    [(404, 1, "there is no file at"), (403, 1, "403"), (500, 3, "500"), (429, 3, "429")],
)
def test_what_the_server_says_is_passed_on(pull, server, status, requests, words):
    server.answers[PATH] = lambda handler: reply(handler, status, b"<html>sorry</html>", Content_Type="text/html")
    outcome = pull()
    assert outcome.code == 1
    assert words in outcome.error
    assert len(server.asked) == requests


def test_a_server_that_recovers_is_waited_for(pull, server, tiny_file):
    good = file(tiny_file.read_bytes())
    server.answers[PATH] = lambda handler: reply(handler, 503, b"") if len(server.asked) < 3 else good(handler)
    assert pull().code == 0


def test_a_server_that_goes_silent_is_given_up(server, home):
    def answer(handler):
        reply(handler, 200, b"x" * 100, Content_Length="1000", ETag='"1"')
        handler.wfile.flush()
        time.sleep(0.5)

    server.answers["/slow"] = answer
    home.mkdir()
    with pytest.raises(download.DownloadError, match="the connection timed out; run the same command again"):
        download.fetch(server.url("/slow"), home / "slow", pauses=(), timeout=0.1)


def test_nobody_listens(pull, server):
    server.close()
    outcome = pull()
    assert outcome.code == 1
    assert "refuses the connection" in outcome.error


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "was not found; check the network connection"),
        (ssl.SSLCertVerificationError(1, "expired"), "the certificate of"),
    ],
)
def test_hosts_that_cannot_be_reached_or_trusted(pull, monkeypatch, reason, words):
    reason.verify_message = "certificate has expired"  # as the ssl module sets it

    def fail(*arguments, **options):
        raise urllib.error.URLError(reason)

    monkeypatch.setattr("urllib.request.OpenerDirector.open", fail)
    outcome = pull()
    assert outcome.code == 1
    assert words in outcome.error


def test_a_full_disk(pull, server, tiny_file, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    server.answers[PATH] = file(tiny_file.read_bytes())
    monkeypatch.setattr(download, "_is_page", full)  # asked between opening the file and writing into it
    outcome = pull()
    assert outcome.code == 1
    assert "is full; make room and run the same command again" in outcome.error


def test_two_pulls_of_one_model_do_not_meet(pull, server, store, home, tiny_file):
    server.answers[PATH] = file(tiny_file.read_bytes())
    with ModelStore(home).exclusively("tiny"):
        outcome = pull()
    assert outcome.code == 1
    assert "another process" in outcome.error
    assert pull().code == 0


def test_where_only_a_page_is_known_it_says_what_to_do(adafocus):
    outcome = adafocus("models", "pull", "v1-activitynet-p128")
    assert outcome.code == 1
    assert "https://drive.google.com/drive/folders/1v5UnucCr2CjmH41HEJePPI2WtDO8SSsp" in outcome.error
    assert outcome.error.endswith("adafocus models add 128s3_checkpoint.pth.tar --name v1-activitynet-p128")


def test_a_catalogue_can_be_at_an_address(adafocus, server, catalogue_file):
    server.answers["/list.yaml"] = lambda handler: reply(handler, 200, catalogue_file.read_bytes())
    outcome = adafocus("models", "list", "--catalogue", server.url("/list.yaml"), "--format", "json")
    assert outcome.code == 0
    assert json.loads(outcome.out)[0]["name"] == "tiny"
    refused = adafocus("models", "list", "--catalogue", "http://example.org/list.yaml")
    assert "not an address that starts with https://" in refused.error


@pytest.mark.parametrize("intact", [True, False])
def test_weights_of_torchvision_come_from_its_address_and_only_with_its_hash(
    adafocus, server, store, home, tiny_file, tmp_path, monkeypatch, intact
):
    address = f"/tiny-{sha256_of(tiny_file)[:8]}.pth"
    meta = {"categories": ["a", "b", "c", "d", "e"]}
    theirs = SimpleNamespace(get_weight=lambda name: SimpleNamespace(url=server.url(address), meta=meta))
    monkeypatch.setattr("adafocus_cli.nn.clip_networks.torchvision_models", lambda: theirs)
    (tmp_path / "own.yaml").write_text(
        "groups: [{family: adafocus-v1, models: [{name: tiny, torchvision: Tiny_Weights.V1}]}]"
    )
    server.answers[address] = file(tiny_file.read_bytes() if intact else bytes(1000))
    outcome = adafocus("models", "pull", "tiny", "--catalogue", tmp_path / "own.yaml")
    if intact:
        assert (outcome.code, store.record_of("tiny").url) == (0, server.url(address))
        assert read_about(store.path_of("tiny")).labels == tuple("abcde")
    else:
        assert outcome.code == 1
        assert "is not the file that was published: its SHA-256 begins with" in outcome.error
        assert (store.installed(), left_over(home)) == ([], [])
