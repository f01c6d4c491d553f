// Stub of android.net.Uri, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.net;

public abstract class Uri {
    Uri() {}
}
