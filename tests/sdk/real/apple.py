"""Apple's frameworks: each API that kits use exists, is as the stubs have it, and is there on the oldest iOS that they run on.

`apple.txt` has a line for each, of three parts between tabs: its name and type as Swift demangles them, the iOS that it came with, and what
it is in Objective-C or C as NativeScript's types of the SDK name it, `CoreML MLModel.predictionFromFeaturesError`; or, of what is in Swift alone, `Swift`
with where it was read, and with the compiler's identifier where documentation has one. What a kit uses is read from the index that Swift writes as it builds, so nothing is overlooked.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import HERE

FRAMEWORKS = (
    "AVFoundation", "CoreFoundation", "CoreGraphics", "CoreImage", "CoreAI", "CoreAIDelegates", "CoreAIRuntime", "CoreML", "CoreMedia", "CoreTransferable", "CoreVideo", "Darwin", "ExecuTorch", "Foundation", "ImageIO", "Photos",
    "PhotosUI", "QuartzCore", "SwiftUI", "UIKit", "UniformTypeIdentifiers", "Vision", "os",
)  # fmt: skip
NEW_IN_SWIFT = {
    "Swift.Duration": 16,
    "Swift.InstantProtocol": 16,
    "Swift.Clock": 16,
    "_Concurrency.ContinuousClock": 16,
    "Synchronization.": 18,
}
"""The iOS that parts of Swift's own library came with; what is not here is as old as concurrency, iOS 13, or older."""
EVERY_IOS = 2.0
"""Where the SDK says nothing, an API is as old as the system."""


@dataclass(frozen=True)
class Api:
    ios: float
    origin: str
    """`CoreML MLModel.predictionFromFeaturesError`, or `Swift` and where it was read."""


def table(path: Path = HERE / "apple.txt") -> dict[str, Api]:
    """By name and type."""
    lines = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return {name: Api(float(ios), origin) for name, ios, origin in lines}


# what is used


def used(package: Path, sources: Iterable[Path], demangle: Callable[[str], str]) -> dict[str, set[str]]:
    """Names of the frameworks' API that the `sources` of a package that was built use, and by which of them; `demangle` is a function of lines."""
    names = {source.name for source in sources}
    found: dict[str, set[str]] = {}
    for record in package.glob(".build*/*/debug/index/store/v5/records/*/*"):
        source = record.name.rpartition("-")[0]
        if source in names:
            for symbol in re.findall(rb"s:[A-Za-z0-9_]+", record.read_bytes()):
                found.setdefault(symbol.decode(), set()).add(source)
    # the index has no end of a symbol: letters that follow it by chance are cut until it is one
    by_name: dict[str, set[str]] = {}
    waiting = {symbol: symbol for symbol in found}
    for _ in range(3):
        spelled = demangle("".join(f"$s{symbol[2:]}\n" for symbol in waiting)).splitlines()
        left = {}
        for (symbol, original), name in zip(waiting.items(), spelled, strict=True):
            if name.startswith("$s"):
                left[symbol[:-1]] = original
            elif plain := plain_name(name):
                by_name.setdefault(plain, set()).update(found[original])
        waiting = left
    return by_name


def plain_name(name: str) -> str | None:
    """The name of a framework's API as `apple.txt` spells it; None of all else."""
    name = re.sub(r"Foundation(Essentials|Internationalization)\b", "Foundation", name)
    name = re.sub(r"(\.getter|\.setter|\.modify|\.read)(?= :|$)", "", name).replace(" variadic-marker ", "").strip()
    name = re.sub(r"(\.getter|\.setter) : ", " : ", name)
    # the stub's, for a compiler whose library has none
    name = name.replace("CoreAIRuntime.Span<", "Swift.Span<")
    owner = re.match(r"(?:static )?(?:\(extension in \w+\):)?(\w+)\.", name)
    # locals, parameters and what is private bear the names of what they lie in
    if not owner or re.search(r"#\d+ |\bin _[0-9A-F]{32}", name):
        return None
    if owner[1] in ("Swift", "_Concurrency", "Synchronization") and not re.match(r"\(extension in (?!Swift|_)", name):
        return name if any(name.removeprefix("static ").startswith(new) for new in NEW_IN_SWIFT) else None
    extended = re.match(r"(?:static )?\(extension in (\w+)\)", name)
    # said already by what it gives and sets; and what every object of Objective-C's has, however it is spelled
    if re.search(r"\.subscript : |^(static )?Foundation\.NSObject(Protocol)?\b", name):
        return None
    return name if (extended[1] if extended else owner[1]) in FRAMEWORKS else None


def absent(names: dict[str, set[str]], oldest: dict[str, float], known: dict[str, Api]) -> Iterator[str]:
    """What is not in the table, or came after the oldest iOS of a file that uses it; `oldest` by the file's name, "" of all others."""
    for name, sources in sorted(names.items()):
        new = next((ios for start, ios in NEW_IN_SWIFT.items() if name.removeprefix("static ").startswith(start)), None)
        if new is None and name not in known:
            yield f"{', '.join(sorted(sources))}: {name} is no API that tests/sdk/real/apple.txt knows"
            continue
        ios = known[name].ios if new is None else float(new)
        for source in sorted(sources):
            if ios > oldest.get(source, oldest[""]):
                yield f"{source}: {name} is there from iOS {ios:g} on, used from {oldest.get(source, oldest['']):g} on"


OLDEST = {"": 15, "ExecuTorchModel.swift": 17}
"""The oldest iOS that kits run on, and that those of ExecuTorch do."""
SAMPLE = 16
"""That of the samples."""


def absent_of(package: Path, demangle: Callable[[str], str]) -> list[str]:
    """What the kits in a package that was built with stubs ask for and the oldest iOS that they run on does not have."""
    sources = [
        path
        for path in package.rglob("*.swift")
        if not re.search(
            r"(^|/)(\.build|Stubs/|Package.swift|XCTAttachment|\w*StubTests)", path.relative_to(package).as_posix()
        )
    ]
    oldest = {path.name: SAMPLE for path in sources if "Sample.swiftpm" in path.parts} | OLDEST
    for path in sources:
        # of a file that asks for the system, what it asks for: which lines are behind the question the index does not say
        asked = re.findall(r"[#@]available\((?:macOS [\d.]+, )?iOS (\d+(?:\.\d+)?)", path.read_text("utf-8"))
        oldest[path.name] = max([oldest.get(path.name, oldest[""]), *map(float, asked)])
    names = used(package, sources, demangle)
    if len(names) < 20:
        return [f"the index in {package} names {len(names)} API: it was not written as it is read here"]
    return [*absent(names, oldest, table())]


# what there is


@dataclass(frozen=True)
class Declared:
    """What the SDK says of an API."""

    ios: float
    parameters: int | None
    """None of what is not called."""
    is_nullable: bool
    value: int | None
    """Of a case of an enumeration."""


class Sdk:
    """NativeScript's types of Apple's SDK, a file for each framework."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.frameworks: dict[str, dict[str, Declared]] = {}

    def find(self, origin: str) -> Declared | None:
        framework, _, name = origin.partition(" ")
        if framework not in self.frameworks:
            path = self.folder / f"objc!{framework}.d.ts"
            self.frameworks[framework] = dict(_declared(path.read_text("utf-8"))) if path.exists() else {}
        return self.frameworks[framework].get(name)


def _declared(text: str) -> Iterator[tuple[str, Declared]]:
    owner, of_owner, since = "", EVERY_IOS, None
    for line in text.splitlines():
        stripped = line.strip()
        if (
            not stripped
            or stripped.startswith(("/**", "* @dep", "*/"))
            or (re.fullmatch(r"\*.*", stripped) and "@since" not in stripped)
        ):
            continue
        if found := re.match(r"\* @since ([\d.]+)", stripped):
            since = float(".".join(found[1].split(".")[:2]))
            continue
        if found := re.match(r"(?:declare )?(?:class|interface|const enum) (\w+)", line):
            owner, of_owner = found[1], since or EVERY_IOS
            yield owner, Declared(of_owner, None, False, None)
        elif found := re.match(r"declare (?:function (\w+)\((.*)\): (.*);|(?:const|var) (\w+): (.*);)", line):
            called = found[1] is not None
            kind = found[3] if called else found[5]
            count = len(_parts(found[2])) if called else None
            yield found[1] or found[4], Declared(since or EVERY_IOS, count, kind.endswith("| null"), None)
        elif line.startswith("\t") and owner:
            ios = since or of_owner
            if found := re.match(r"(\w+) = (-?\d+)", stripped):
                yield f"{owner}.{found[1]}", Declared(ios, None, False, int(found[2]))
            elif found := re.match(r"(?:static )?(\w+)\??(?:<.*?>)?\((.*)\): (.*);", stripped):
                parts = [part for part in _parts(found[2]) if not part.startswith("error?")]
                yield f"{owner}.{found[1]}", Declared(ios, len(parts), found[3].endswith("| null"), None)
            elif found := re.match(r"constructor\((.*)\);", stripped):
                names = re.findall(r"(\w+): ", stripped)
                yield f"{owner}.init({','.join(names[:1])})", Declared(ios, None, False, None)
            elif found := re.match(r"(?:static )?(?:readonly )?(\w+)\??: (.*);", stripped):
                yield f"{owner}.{found[1]}", Declared(ios, None, found[2].endswith("| null"), None)
        since = None


def _parts(text: str) -> list[str]:
    depth, parts = 0, [""]
    for letter in text:
        depth += {"<": 1, "(": 1, ")": -1}.get(letter, 0) - (
            letter == ">" and depth > 0 and not parts[-1].endswith("=")
        )
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def differences(known: dict[str, Api], sdk: Sdk, values: dict[str, int]) -> Iterator[str]:
    """Where the table is not as the SDK; `values` are those of the stubs' enumerations, by the names of their cases."""
    for name, api in sorted(known.items()):
        if api.origin.startswith("Swift"):
            continue
        found = sdk.find(api.origin)
        if found is None:
            yield f"{name}: there is no {api.origin}"
            continue
        if found.ios != api.ios:
            yield f"{name}: from iOS {api.ios:g} on, in truth {found.ios:g}"
        count = parameters(name)
        if count is not None and "." not in api.origin and not re.match(r"(static )?\w+\.(\w+|\w+\.init)\(", name):
            count += 1  # a function of C takes the object that Swift calls it on
        if found.parameters is not None and count is not None and count != found.parameters:
            yield f"{name}: takes {count}, in truth {found.parameters}"
        # Foundation's values in Swift have fewer that are optional than the classes behind them
        if (
            " throws " not in name
            and not name.removeprefix("static ").startswith(("Foundation.", "(extension in Foundation)"))
            and _is_optional(name) != found.is_nullable
        ):
            yield f"{name}: is {'' if _is_optional(name) else 'not '}optional, in truth {'' if found.is_nullable else 'not '}nullable"
        case = re.match(r"\w+\.([\w.]+)\(", name)
        if found.value is not None and case and values.get(case[1], found.value) != found.value:
            yield f"{name}: is {values[case[1]]}, in truth {found.value}"


def _is_optional(name: str) -> bool:
    return name.rpartition(" : ")[2].endswith("?") if " -> " not in name else name.endswith("?")


def parameters(name: str) -> int | None:
    """How many a function takes, the object that it is called on not counted; None of what is not called."""
    plain = re.sub(r"\(extension in \w+\):", "", name)
    found = re.match(r"(?:static )?[\w.]+(?:<.*?>)?\(", plain)
    if not found:
        return None
    inside = plain[found.end() :]
    depth, count = 0, 1
    for before, letter in zip(" " + inside, inside, strict=False):
        if letter == ")" and not depth:
            break
        depth += {"(": 1, "[": 1, "<": 1, ")": -1, "]": -1}.get(letter, 0) - (letter == ">" and before != "-")
        count += letter == "," and not depth
    return 0 if inside.startswith(")") else count


def cases(source: str) -> dict[str, int]:
    """The raw values of the enumerations of a Swift source, by `Name.case`; each follows on the one before."""
    found, owner, outer, value = {}, "", "", -1
    for line in source.splitlines():
        indent = len(line) - len(line.lstrip())
        if match := re.match(r"\s*(?:public |open )?(?:final )?(enum|class|struct) (\w+)", line):
            owner = f"{outer}.{match[2]}" if indent and match[1] == "enum" else match[2]
            outer, value = (match[2] if not indent else outer), -1
        elif match := re.match(r"\s*case (.+)$", line):
            for one in re.sub(r"//.*", "", match[1]).split(","):
                name, _, given = one.strip().partition(" = ")
                value = int(given) if re.fullmatch(r"-?\d+", given) else value + 1
                found[f"{owner}.{name.strip('`')}"] = value
    return found


def demangler(program: Path, folder: Path) -> Callable[[str], str]:
    """`swift demangle` as a function of lines, run in a folder."""

    def demangle(lines: str) -> str:
        return subprocess.run(
            [program, "demangle"], input=lines, capture_output=True, text=True, check=True, cwd=folder
        ).stdout

    return demangle
