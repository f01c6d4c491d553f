// Stub of android.graphics.ColorSpace, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.graphics;

public abstract class ColorSpace {
    ColorSpace() {}

    public boolean isSrgb() {
        return fakes.Fakes.isSrgb;
    }
    static final ColorSpace FAKE = new ColorSpace() {};
}
