/// What may be shown to the model.
protocol Showable: Sendable {
    /// Writes the model's input, which takes long where an image has to be decoded.
    func show(in target: PixelTarget) throws -> Seen
}

/// An image that the model was shown.
struct Seen: Sendable {
    /// As its pixels are stored.
    let width: Int
    let height: Int
    let turned: Orientation
    /// Where it lies in the model's input.
    let placed: Placed
    /// Of the file, where that has more pixels.
    let fileWidth: Int
    let fileHeight: Int
}
