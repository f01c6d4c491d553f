// Stub of android.graphics.ColorSpace, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.graphics;

import androidx.annotation.NonNull;

public abstract class ColorSpace {
    public enum Named { SRGB }

    ColorSpace() {}

    @NonNull
    public static ColorSpace get(@NonNull Named name) {
        fakes.Fakes.since(26);
        return FAKE;
    }

    public boolean isSrgb() {
        return fakes.Fakes.isSrgb;
    }

    static final ColorSpace FAKE = new ColorSpace() {};
}
