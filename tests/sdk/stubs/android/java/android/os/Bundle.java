// Stub of android.os.Bundle, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.os;

public final class Bundle {}
