// Decodes the outputs of `box_cases.py`: harness FORMS OUTPUTS OUT

import Foundation

var words = try String(contentsOfFile: CommandLine.arguments[1], encoding: .utf8).split(whereSeparator: \.isWhitespace)[...]
let values = try Data(contentsOf: URL(fileURLWithPath: CommandLine.arguments[2])).withUnsafeBytes { bytes in
    stride(from: 0, to: bytes.count, by: 4).map { offset in
        Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }
}
var place = 0

func int() -> Int { Int(words.removeFirst())! }
func double() -> Double { Double(words.removeFirst())! }

func numbers() -> Numbers? {
    let output = int()
    return output < 0 ? nil : Numbers(output: output, first: int(), step: int(), apart: int())
}

func block() -> Block {
    Block(
        rows: int(), columns: int(), cell: [double(), double()], unit: [double(), double()],
        sizes: (0..<int()).map { _ in double() }, boxes: numbers()!, scores: numbers()!, objectness: numbers(),
        offsets: numbers()
    )
}

func form() -> BoxForm {
    BoxForm(
        classes: int(), columns: int(), firstClass: int(),
        format: [.xyxy, .cxcywh, .ltrb, .anchors, .size][int()], activation: [.softmax, .sigmoid, .none][int()],
        peaks: int() == 1, center: double(), variances: (0..<4).map { _ in double() }, scoreThreshold: double(),
        overlapThreshold: double(), perClass: int() == 1, most: int(), blocks: (0..<int()).map { _ in block() }
    )
}

var output = Data()
for _ in 0..<int() {
    let form = form()
    let sizes = (0..<int()).map { _ in int() }
    for _ in 0..<int() {
        let outputs = sizes.map { size in
            defer { place += size }
            return Array(values[place..<place + size])
        }
        let found = form.decode(outputs)
        let numbers = found.flatMap {
            [$0.box.left, $0.box.top, $0.box.right, $0.box.bottom, $0.score, Double($0.index)]
        }
        for number in [Double(found.count)] + numbers {
            withUnsafeBytes(of: number.bitPattern.littleEndian) { output.append(contentsOf: $0) }
        }
    }
}
precondition(words.isEmpty && place == values.count)
try output.write(to: URL(fileURLWithPath: CommandLine.arguments[3]))
