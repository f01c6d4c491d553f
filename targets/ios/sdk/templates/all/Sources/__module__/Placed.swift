/// How an image of another shape becomes the model's input.
enum Fit: Sendable {
    /// Its largest centred rectangle with the input's aspect ratio fills the input.
    case crop
    /// The whole of it lies on black, centred and as large as the input holds.
    case letterbox
}

/// A rectangle of whole pixels.
struct Area: Equatable, Sendable {
    let top: Int
    let left: Int
    let height: Int
    let width: Int
}

/// A rectangle of an upright photo, and the rectangle of the input that it fills.
///
/// Points have coordinates (x, y) from the outer edge of the first pixel on: a photo of `width` columns reaches from 0 to
/// `width`. Boxes are left, top, right and bottom, four numbers each, one after another.
struct Placed: Equatable, Sendable {
    let photo: Area
    let input: Area

    init(photo: Area, input: Area) {
        self.photo = photo
        self.input = input
    }

    /// Where an image of `width` by `height` stored pixels lies in the input.
    init(width: Int, height: Int, orientation: Orientation, fit: Fit, inputWidth: Int, inputHeight: Int) {
        let size = orientation.swapsAxes ? (height: width, width: height) : (height: height, width: width)
        let isTall = size.height * inputWidth >= size.width * inputHeight
        switch fit {
        case .crop:
            let rows = isTall ? max(1, size.width * inputHeight / inputWidth) : size.height
            let columns = isTall ? size.width : max(1, size.height * inputWidth / inputHeight)
            photo = Placed.centered(height: rows, width: columns, in: size)
            input = Area(top: 0, left: 0, height: inputHeight, width: inputWidth)
        case .letterbox:
            let rows = isTall ? inputHeight : Placed.rounded(size.height * inputWidth, by: size.width)
            let columns = isTall ? Placed.rounded(size.width * inputHeight, by: size.height) : inputWidth
            photo = Area(top: 0, left: 0, height: size.height, width: size.width)
            input = Placed.centered(height: rows, width: columns, in: (height: inputHeight, width: inputWidth))
        }
    }

    /// Boxes in the upright photo, as they lie in the input.
    func toInput(_ boxes: [Double]) -> [Double] {
        Placed.carried(boxes, from: photo, to: input)
    }

    /// Boxes in the input, as they lie in the upright photo; the same operations on every platform.
    func toPhoto(_ boxes: [Double]) -> [Double] {
        Placed.carried(boxes, from: input, to: photo)
    }

    /// `photo` in the image as it is stored, of `width` by `height` pixels.
    func stored(width: Int, height: Int, orientation: Orientation) -> Area {
        let (top, rows) = orientation.swapsAxes ? (photo.left, photo.width) : (photo.top, photo.height)
        let (left, columns) = orientation.swapsAxes ? (photo.top, photo.height) : (photo.left, photo.width)
        return Area(
            top: orientation.reversesRows ? height - top - rows : top,
            left: orientation.reversesColumns ? width - left - columns : left,
            height: rows,
            width: columns
        )
    }

    /// The quotient as the nearest whole number, a half up; at least 1.
    private static func rounded(_ value: Int, by divisor: Int) -> Int {
        max(1, (2 * value + divisor) / (2 * divisor))
    }

    /// Of an odd rest the larger half lies right and below.
    private static func centered(height: Int, width: Int, in outer: (height: Int, width: Int)) -> Area {
        Area(top: (outer.height - height) / 2, left: (outer.width - width) / 2, height: height, width: width)
    }

    private static func carried(_ boxes: [Double], from: Area, to: Area) -> [Double] {
        boxes.enumerated().map { (index: Int, value: Double) -> Double in
            index.isMultiple(of: 2)
                ? moved(value, from: from.left, from.width, to: to.left, to.width)
                : moved(value, from: from.top, from.height, to: to.top, to.height)
        }
    }

    private static func moved(_ value: Double, from start: Int, _ size: Int, to place: Int, _ wanted: Int) -> Double {
        let scaled: Double = (value - Double(start)) * Double(wanted)
        return scaled / Double(size) + Double(place)
    }
}
