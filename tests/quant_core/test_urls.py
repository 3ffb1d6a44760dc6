"""What of a URL may be shown."""

import pytest

from quant_core.urls import is_remote, redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/plain/path", "/plain/path"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("sftp://me:secret@host/file", "sftp://host/file"),
        ("https://host/m.onnx?X-Amz-Signature=secret", "https://host/m.onnx"),
        ("https://host/m.onnx#secret", "https://host/m.onnx"),
        ("GET https://a:secret@h/x?k=secret failed, also ftp://u:secret@i/y", "GET https://h/x failed, also ftp://i/y"),
        ("url='https://h/x?k=secret', status=403", "url='https://h/x', status=403"),
        ("what? no url@here", "what? no url@here"),
    ],
)
def test_secrets_are_not_shown(text, expected):
    assert redacted(text) == expected


@pytest.mark.parametrize(
    ("url", "remote"), [("/a/b", False), ("a", False), ("file:///a", False), ("s3://a/b", True), ("memory://a", True)]
)
def test_a_place_is_remote_or_not(url, remote):
    assert is_remote(url) is remote
