// Stub of android.hardware.DataSpace, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.hardware;

public final class DataSpace {
    public static final int DATASPACE_UNKNOWN = 0;
    public static final int DATASPACE_JFIF = 146931712;
    public static final int DATASPACE_BT709 = 281083904;
    public static final int RANGE_FULL = 134217728;
    public static final int RANGE_LIMITED = 268435456;
    public static final int STANDARD_BT601_625 = 131072;
    public static final int STANDARD_BT709 = 65536;
    public static final int STANDARD_BT2020 = 393216;
    public static final int STANDARD_BT2020_CONSTANT_LUMINANCE = 458752;

    private DataSpace() {}

    public static int getRange(int dataSpace) {
        fakes.Fakes.since(33);
        return dataSpace & 7 << 27;
    }

    public static int getStandard(int dataSpace) {
        fakes.Fakes.since(33);
        return dataSpace & 63 << 16;
    }
}
