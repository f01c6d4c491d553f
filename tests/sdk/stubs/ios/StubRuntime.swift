// What the stubs of Core ML and ExecuTorch compute with; no framework of Apple's has such a module.
//
// It knows the golden images of a kit's vectors and gives the reference's logits for them, 0 for any other image. The
// folder of the vectors and the reference's key come from the environment: STUB_VECTORS and STUB_REFERENCE.

import Foundation

public enum StubRuntime {
    /// The last input as `(resolution, resolution, 4)` RGBA.
    public nonisolated(unsafe) static var lastInput: [UInt8] = []

    public static func logits(of rgba: [UInt8]) -> [Float] {
        lastInput = rgba
        let vectors = URL(fileURLWithPath: ProcessInfo.processInfo.environment["STUB_VECTORS"]!)
        let reference = ProcessInfo.processInfo.environment["STUB_REFERENCE"]!
        struct Golden: Decodable { let name: String }
        struct Vectors: Decodable { let golden: [Golden] }
        let json = try! Data(contentsOf: vectors.appendingPathComponent("vectors.json"))
        let names = try! JSONDecoder().decode(Vectors.self, from: json).golden.map(\.name)
        let values = try! Data(contentsOf: vectors.appendingPathComponent("golden/\(reference).f32")).withUnsafeBytes {
            Array($0.bindMemory(to: Float.self))
        }
        let classes = values.count / names.count
        for (number, name) in names.enumerated() {
            let image = try! Data(contentsOf: vectors.appendingPathComponent("golden/\(name).rgba"))
            if image.elementsEqual(rgba) {
                return Array(values[number * classes..<(number + 1) * classes])
            }
        }
        return [Float](repeating: 0, count: classes)
    }
}
