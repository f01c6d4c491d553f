import Foundation

/// A class and how probable it is.
public struct Classification: Hashable, Identifiable, Sendable {
    /// Place in the model's list of labels, from 0.
    public let index: Int
    public let label: String
    /// 0 to 1; those of all classes add up to 1.
    public let probability: Double

    public var id: Int { index }
}

/// From logits to classes.
enum Ranking {
    /// The softmax of `(classes)` finite logits, in double precision.
    static func softmax(_ logits: [Float]) -> [Double] {
        let largest = Double(logits.max() ?? 0)
        let powers = logits.map { exp(Double($0) - largest) }
        let sum = powers.reduce(0, +)
        return powers.map { $0 / sum }
    }

    /// The `count` most probable classes, or all where there are fewer; of equal logits the first class comes first.
    static func top(_ logits: [Float], labels: [String], count: Int) -> [Classification] {
        let probabilities = softmax(logits)
        let order = logits.indices.sorted { (-logits[$0], $0) < (-logits[$1], $1) }
        return order.prefix(count).map {
            Classification(index: $0, label: labels[$0], probability: probabilities[$0])
        }
    }
}
