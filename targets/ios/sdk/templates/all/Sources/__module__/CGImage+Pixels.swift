#if canImport(CoreGraphics)
import CoreGraphics

extension CGImage {
    /// Writes the model's input.
    ///
    /// Core Graphics decodes the part that is seen and converts its colours to sRGB straight into a buffer of 8-bit
    /// premultiplied RGBA, at the size in which it is stored; the resizer reads that buffer and writes the model's.
    /// No other copy is made. A premultiplied colour is what is seen before black, so alpha is not applied again;
    /// the bytes of opaque sRGB images are exactly those of the file.
    func writePixels(orientation: Orientation, into target: PixelTarget) throws {
        let crop = Pixels.centeredCrop(
            width: width, height: height, orientation: orientation, inputWidth: target.width,
            inputHeight: target.height
        )
        guard
            let cropped = cropping(to: CGRect(x: crop.left, y: crop.top, width: crop.width, height: crop.height)),
            let space = CGColorSpace(name: CGColorSpace.sRGB),
            let context = CGContext(
                data: nil, width: crop.width, height: crop.height, bitsPerComponent: 8, bytesPerRow: 0, space: space,
                bitmapInfo: CGImageAlphaInfo.premultipliedLast.rawValue
            )
        else {
            throw ClassifierError.imageUnreadable
        }
        context.setBlendMode(.copy)
        context.interpolationQuality = .none
        context.draw(cropped, in: CGRect(x: 0, y: 0, width: crop.width, height: crop.height))
        guard let data = context.data else {
            throw ClassifierError.imageUnreadable
        }
        try withExtendedLifetime(context) {
            let rows = PixelRows(
                bytes: UnsafeRawBufferPointer(start: data, count: context.bytesPerRow * crop.height),
                width: crop.width, height: crop.height, bytesPerRow: context.bytesPerRow, alpha: .premultiplied
            )
            let whole = Crop(left: 0, top: 0, width: crop.width, height: crop.height)
            try Pixels.resize(rows, crop: whole, orientation: orientation, into: target)
        }
    }
}
#endif
