"""A changed byte, a foreign file, another key: `verify` finds each."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twinkeel.pipeline.delivery import manifest, sbom, signature
from twinkeel.pipeline.errors import SignatureError, TwinkeelError, VerifyError
from twinkeel.pipeline.files import read_json, write_json

FLIPS = 1000


def write_key(folder, name, private=None):
    """(private, public) PEM files."""
    key = private or Ed25519PrivateKey.generate()
    secret, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return secret, public


@pytest.fixture
def folder(fixed_build, tmp_path):
    return shutil.copytree(fixed_build.folders["android"], tmp_path / "android")


def test_a_signed_folder_verifies_with_its_key_and_no_other(folder, run_cli, tmp_path):
    (secret, public), (_, other) = write_key(tmp_path, "mine"), write_key(tmp_path, "other")
    assert isinstance(run_cli("verify", folder, "--key", public).exception, SignatureError)
    assert run_cli("sign", folder, "--key", secret).exit_code == 0
    result = run_cli("verify", folder, "--key", public)
    assert result.exit_code == 0 and "signed with this key" in result.output
    assert run_cli("verify", folder).exit_code == 0
    assert "another key" in str(run_cli("verify", folder, "--key", other).exception)


def test_every_changed_byte_is_found(folder, tmp_path):
    """Each in a file drawn by its size, or in a small one."""
    secret, public = write_key(tmp_path, "mine")
    signature.sign(folder, secret)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    draw, found = random.Random(0), 0
    sizes = [path.stat().st_size for path in files]
    for number in range(FLIPS):
        path = draw.choice(files) if number % 2 else draw.choices(files, sizes)[0]
        whole = path.read_bytes()
        if not whole:
            continue
        place = draw.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ draw.randrange(1, 256)]) + whole[place + 1 :])
        try:
            manifest.verify(folder)
            signature.check(folder, public)
        except TwinkeelError:
            found += 1
        else:
            pytest.fail(f"byte {place} of {path.relative_to(folder)}")
        path.write_bytes(whole)
    print(f"{found} of {FLIPS} changed bytes found")
    assert manifest.verify(folder) and found > 0.9 * FLIPS


def test_without_a_key_a_changed_manifest_is_found_too(folder):
    path = folder / manifest.MANIFEST
    path.write_text(path.read_text().replace('"is_verified": true', '"is_verified":  true'))
    with pytest.raises(VerifyError, match=r"changed: manifest\.json"):
        manifest.verify(folder)


@pytest.mark.parametrize("platform", ["android", "ios"])
def test_the_bill_of_materials_is_valid_and_holds_every_artifact(platform, fixed_build):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    folder = fixed_build.folders[platform]
    text, content = (folder / sbom.FILE).read_text(), manifest.read_manifest(folder)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    hashes = {part["name"]: part["hashes"][0]["content"] for part in bill["components"]}
    assert hashes == {entry["path"]: entry["sha256"] for entry in content["artifacts"]}
    tools = {tool["name"]: tool["version"] for tool in bill["metadata"]["tools"]["components"]}
    assert tools == content["versions"] and "timestamp" not in bill["metadata"]


@pytest.mark.parametrize("name", ["more.txt", ".hidden", "sdk/Extra.kt"])
def test_a_file_that_the_manifest_does_not_know_is_found(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    with pytest.raises(VerifyError, match=f"unknown: {name}"):
        manifest.verify(folder)


@pytest.mark.parametrize("kind", ["link", "link to a folder", "pipe"])
def test_what_is_no_plain_file_is_refused(folder, tmp_path, kind):
    if kind == "pipe":
        os.mkfifo(folder / "x")
    else:
        (folder / "x").symlink_to(tmp_path if "folder" in kind else folder / "labels.txt")
    with pytest.raises(
        VerifyError, match=rf"neither file nor folder: x \({'a pipe' if kind == 'pipe' else 'a link'}\)\. .*cp -rL"
    ):
        manifest.verify(folder)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "c:\\\\x", ""])
def test_names_that_lead_out_of_the_folder_are_refused(folder, path):
    content = manifest.read_manifest(folder)
    content["artifacts"][0]["path"] = path
    if path:
        manifest.write(content, folder / manifest.MANIFEST)
        with pytest.raises(VerifyError, match="no name of a file inside"):
            manifest.read_manifest(folder)
    golden = read_json(folder / "golden" / "golden.json")
    golden["names"][0] = path
    write_json(golden, folder / "golden" / "golden.json")
    with pytest.raises(VerifyError, match="no name of a file inside"):
        manifest.read_golden(folder / "golden")


@pytest.mark.parametrize("kind", ["missing", "junk", "other kind", "password", "huge", "public for private"])
def test_a_key_that_cannot_be_used_is_named(folder, tmp_path, kind):
    key, (_, public) = tmp_path / "key.pem", write_key(tmp_path, "mine")
    if kind == "junk":
        key.write_bytes(b"\0" * 100)
    elif kind == "other kind":
        key, _ = write_key(tmp_path, "curve", generate_private_key(SECP256R1()))
    elif kind == "password":
        lock = serialization.BestAvailableEncryption(b"x")
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key.write_bytes(Ed25519PrivateKey.generate().private_bytes(pem, form, lock))
    elif kind == "huge":
        key.write_bytes(b"-" * 1_000_000)
    elif kind == "public for private":
        key = public
    with pytest.raises(SignatureError) as raised:
        signature.sign(folder, key)
    assert str(key) in str(raised.value) and len(str(raised.value)) < 500
    assert not (folder / manifest.SIGNATURE).exists()


def test_a_folder_that_is_not_whole_is_not_signed(folder, tmp_path):
    secret, _ = write_key(tmp_path, "mine")
    (folder / "labels.txt").write_text("another\n")
    with pytest.raises(VerifyError, match=r"changed: labels\.txt"):
        signature.sign(folder, secret)
