"""What is an image, by name and by how it begins."""

from __future__ import annotations

TENSORS = ".npz"
"""Suffix of files that are no images: what a model is given beside one."""

FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP",
)  # fmt: skip
"""Pillow's names. It knows more: some run another program (EPS runs Ghostscript), some unpack without a limit."""

HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
IMAGE_SUFFIXES = HEIF_SUFFIXES | {
    ".apng", ".avif", ".avifs", ".bmp", ".bw", ".dib", ".gif", ".icb", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg",
    ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".rgb", ".rgba", ".sgi", ".tga",
    ".tif", ".tiff", ".vda", ".vst", ".webp",
}  # fmt: skip
RAW_SUFFIXES = frozenset({".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"})
"""Of cameras: TIFF, most of them, whose first page is a preview."""

_MAGIC = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"qoif",
)  # fmt: skip
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def has_image_magic(head: bytes) -> bool:
    """Whether a file that begins like that is an image: long marks alone, so that no text is one by accident."""
    is_bitmap = (
        head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in (b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")
    )
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_MAGIC) or is_bitmap or is_webp or is_heif(head) or _brand(head) in (b"avif", b"avis")


def is_heif(head: bytes) -> bool:
    """HEIC, as iPhones make it."""
    return _brand(head) in _HEIF_BRANDS


def _brand(head: bytes) -> bytes:
    return head[8:12] if head[4:8] == b"ftyp" else b""
