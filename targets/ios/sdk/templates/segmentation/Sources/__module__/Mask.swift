/// How much of a picture belongs to a class.
public struct ClassShare: Hashable, Identifiable, Sendable {
    /// Place of the class in the model's list of labels, from 0.
    public let index: Int
    public let label: String
    /// Above 0 to 1, of the pixels that the model was shown.
    public let share: Double

    public var id: Int { index }
}

/// The class of each pixel of an image, as the image's pixels are stored.
public struct Mask: Hashable, Sendable {
    /// Of pixels that the model was not shown: those outside of the part that it sees.
    public static let unseen: UInt8 = 255

    public let width: Int
    public let height: Int
    /// `(height, width)`, row by row: the number of each pixel's class from 0 on, or ``unseen``.
    public let classes: [UInt8]

    /// The class of a pixel, a place in the model's list of labels; nil where the model was not shown it.
    ///
    /// - Precondition: the image has such a pixel.
    public subscript(x: Int, y: Int) -> Int? {
        precondition(0..<width ~= x && 0..<height ~= y, "no pixel (\(x), \(y)) in \(width) x \(height)")
        let value = classes[y * width + x]
        return value == Mask.unseen ? nil : Int(value)
    }

    /// The classes that are there, from the one with most pixels on; of as many, by their number.
    public var shares: [ClassShare] {
        var counts = [Int](repeating: 0, count: 256)
        for value in classes {
            counts[Int(value)] += 1
        }
        let seen = classes.count - counts[Int(Mask.unseen)]
        let order = Labels.all.indices.filter { counts[$0] > 0 }.sorted { (-counts[$0], $0) < (-counts[$1], $1) }
        return order.map {
            ClassShare(index: $0, label: Labels.all[$0], share: Double(counts[$0]) / Double(seen))
        }
    }
}
