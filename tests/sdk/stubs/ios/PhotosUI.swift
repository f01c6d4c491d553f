// PhotosUI, the part that the sample uses; nothing is picked.
// Written after Apple's public documentation of PhotosUI, as of the iOS 18 SDK (Xcode 16); not compared with the SDK itself.

import Foundation
import SwiftUI

public protocol Transferable {}

extension Data: Transferable {}

public struct PHPickerFilter: Equatable, Hashable, Sendable {
    public static let images = PHPickerFilter()
}

public struct PhotosPickerItem: Equatable, Hashable, Sendable {
    public struct EncodingDisambiguationPolicy: Equatable, Sendable {
        public static let automatic = EncodingDisambiguationPolicy()
    }

    public func loadTransferable<T: Transferable>(type: T.Type) async throws -> sending T? { nil }
}

public struct PhotosPicker<Label: View>: View {
    public var body: Never { fatalError("nothing is shown") }
}

extension PhotosPicker where Label == Text {
    nonisolated public init(
        _ titleKey: LocalizedStringKey, selection: Binding<PhotosPickerItem?>, matching filter: PHPickerFilter? = nil,
        preferredItemEncoding: PhotosPickerItem.EncodingDisambiguationPolicy = .automatic
    ) {}
}
