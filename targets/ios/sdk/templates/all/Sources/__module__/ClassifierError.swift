import Foundation

/// Why a picture could not be classified.
public enum ClassifierError: Error, Equatable, Sendable {
    /// The package's resources do not hold the model.
    case modelMissing(String)
    /// The runtime cannot load the model.
    case modelUnusable(reason: String)
    /// Core Graphics cannot draw the image.
    case imageUnreadable
    /// The image's pixels cannot be summed in 64 bits; more than 10,000 x 10,000 pixels.
    case imageTooLarge(width: Int, height: Int)
    /// Fewer than one class is asked for.
    case invalidTopK(Int)
    /// The runtime failed, or its result is not one finite number for each class.
    case predictionFailed(reason: String)
}

extension ClassifierError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .modelMissing(let name):
            "The package holds no model '\(name)'."
        case .modelUnusable(let reason):
            "The model cannot be loaded: \(reason)"
        case .imageUnreadable:
            "The image cannot be drawn."
        case .imageTooLarge(let width, let height):
            "An image of \(width) x \(height) pixels is too large."
        case .invalidTopK(let count):
            "At least one class must be asked for, not \(count)."
        case .predictionFailed(let reason):
            "The model cannot be run: \(reason)"
        }
    }
}
