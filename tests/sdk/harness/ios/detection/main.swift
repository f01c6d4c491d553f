// Decodes the outputs of `box_cases.py`: harness FORMS OUTPUTS OUT

import Foundation

/// The forms, word by word.
struct Words {
    var rest: ArraySlice<Substring>

    mutating func int() -> Int { Int(rest.removeFirst())! }
    mutating func double() -> Double { Double(rest.removeFirst())! }
    mutating func doubles(_ count: Int) -> [Double] { (0..<count).map { _ in double() } }

    mutating func numbers() -> Numbers? {
        let output = int()
        return output < 0 ? nil : Numbers(output: output, first: int(), step: int(), apart: int())
    }

    mutating func block() -> Block {
        Block(
            rows: int(), columns: int(), cell: doubles(2), unit: doubles(2), sizes: doubles(int()), boxes: numbers()!,
            scores: numbers()!, objectness: numbers(), offsets: numbers()
        )
    }

    mutating func form() -> BoxForm {
        let formats: [BoxForm.Format] = [.xyxy, .cxcywh, .ltrb, .anchors, .size]
        let activations: [BoxForm.Activation] = [.softmax, .sigmoid, .none]
        return BoxForm(
            classes: int(), columns: int(), firstClass: int(), format: formats[int()], activation: activations[int()],
            peaks: int() == 1, center: double(), variances: doubles(4), scoreThreshold: double(),
            overlapThreshold: double(), perClass: int() == 1, most: int(), blocks: (0..<int()).map { _ in block() }
        )
    }
}

func decodeAll(_ text: String, _ values: [Float]) -> Data {
    var words = Words(rest: text.split(whereSeparator: \.isWhitespace)[...])
    var (place, output) = (0, Data())
    for _ in 0..<words.int() {
        let form = words.form()
        let sizes = words.doubles(words.int()).map { Int($0) }
        for _ in 0..<words.int() {
            var outputs: [[Float]] = []
            for size in sizes {
                outputs.append(Array(values[place..<place + size]))
                place += size
            }
            let found = form.decode(outputs)
            var numbers = [Double(found.count)]
            for one in found {
                numbers += [one.box.left, one.box.top, one.box.right, one.box.bottom, one.score, Double(one.index)]
            }
            for number in numbers {
                withUnsafeBytes(of: number.bitPattern.littleEndian) { output.append(contentsOf: $0) }
            }
        }
    }
    precondition(words.rest.isEmpty && place == values.count)
    return output
}

let text = try String(contentsOfFile: CommandLine.arguments[1], encoding: .utf8)
let values = try Data(contentsOf: URL(fileURLWithPath: CommandLine.arguments[2])).withUnsafeBytes { bytes in
    stride(from: 0, to: bytes.count, by: 4).map { offset in
        Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }
}
try decodeAll(text, values).write(to: URL(fileURLWithPath: CommandLine.arguments[3]))
