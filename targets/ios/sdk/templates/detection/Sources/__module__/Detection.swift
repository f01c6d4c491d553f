/// A rectangle in pixels of the upright image, from the outer edge of its first pixel on: an image of `w` columns
/// reaches from 0 to `w`.
public struct Box: Hashable, Sendable {
    public let left: Double
    public let top: Double
    public let right: Double
    public let bottom: Double
}

/// An object in an image.
public struct Detection: Hashable, Sendable {
    /// Place of its class in the model's list of labels, from 0.
    public let index: Int
    public let label: String
    /// 0 to 1, how sure the model is of it.
    public let score: Double
    public let box: Box

    /// Of a photo that is so many times as large.
    func scaled(across: Double, down: Double) -> Detection {
        let larger = Box(
            left: across * box.left, top: down * box.top, right: across * box.right, bottom: down * box.bottom
        )
        return Detection(index: index, label: label, score: score, box: larger)
    }
}
