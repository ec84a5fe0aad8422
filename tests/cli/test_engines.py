"""What `--engine` and `--address` refuse."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from adafocus_cli.engine import cluster
from tests.tiny import tiny_tagger


def test_without_ray_one_line_says_what_to_install(adafocus, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = adafocus("batch", tmp_path / "a.mp4", "-o", tmp_path / "tags.jsonl", "--engine", "ray")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert 'pip install "adafocus-cli[ray]"' in done.err
    assert not Path(tmp_path, "tags.jsonl").exists()


def test_an_address_is_of_a_cluster(adafocus, tmp_path):
    done = adafocus("batch", tmp_path / "a.mp4", "-o", tmp_path / "tags.jsonl", "--address", "auto")
    assert (done.code, "add --engine ray" in done.err) == (2, True)


@pytest.mark.parametrize(("address", "reason"), [("auto", "nobody is at auto"), ("127.0.0.1:9", ".*refused")])
def test_a_cluster_that_does_not_answer_is_an_error_of_one_line(adafocus, monkeypatch, tmp_path, address, reason):
    class NoCluster:
        def is_initialized(self):
            return False

        def init(self, **how):
            raise ConnectionError(f"nobody is at {how['address']}")

    monkeypatch.setattr(cluster, "library", NoCluster)
    monkeypatch.setattr("adafocus_cli.tagger.ClipTagger.of", lambda request: tiny_tagger("adafocus-v2"))
    done = adafocus("batch", tmp_path / "a.mp4", "-o", tmp_path / "tags.jsonl", "--engine", "ray", "--address", address)
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert re.search(rf"no Ray cluster answers at {address} \({reason}\)", done.err)
