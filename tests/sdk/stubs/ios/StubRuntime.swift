// What the stubs of Core ML and ExecuTorch compute with; no framework of Apple's has such a module.
//
// It knows the golden images of a kit's vectors and gives the reference's logits for them, 0 for any other image. The
// folder of the vectors and the reference's key come from the environment: STUB_VECTORS and STUB_REFERENCE, which may
// be "reversed" for logits that are wrong.

import Foundation

public enum StubRuntime {
    /// The last input as `(height, width, 4)` RGBA.
    public nonisolated(unsafe) static var lastInput: [UInt8] = []

    public static func logits(of rgba: [UInt8]) -> [Float] {
        lastInput = rgba
        let vectors = URL(fileURLWithPath: ProcessInfo.processInfo.environment["STUB_VECTORS"]!)
        let reference = ProcessInfo.processInfo.environment["STUB_REFERENCE"]!
        struct Golden: Decodable { let name: String }
        struct Vectors: Decodable { let golden: [Golden] }
        let json = try! Data(contentsOf: vectors.appendingPathComponent("vectors.json"))
        let names = try! JSONDecoder().decode(Vectors.self, from: json).golden.map(\.name)
        let isReversed = reference == "reversed"
        let file = vectors.appendingPathComponent("golden/\(isReversed ? "fp32" : reference).f32")
        let values = try! Data(contentsOf: file).withUnsafeBytes {
            Array($0.bindMemory(to: Float.self))
        }
        let classes = values.count / names.count
        for (number, name) in names.enumerated() {
            let image = try! Data(contentsOf: vectors.appendingPathComponent("golden/\(name).rgba"))
            if image.elementsEqual(rgba) {
                let logits = Array(values[number * classes..<(number + 1) * classes])
                return isReversed ? logits.reversed() : logits
            }
        }
        return [Float](repeating: 0, count: classes)
    }
}
