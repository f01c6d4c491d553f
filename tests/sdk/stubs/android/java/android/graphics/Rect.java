// Stub of android.graphics.Rect, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.graphics;

public final class Rect {}
