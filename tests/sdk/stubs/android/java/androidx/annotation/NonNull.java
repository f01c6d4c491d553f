// Stub of androidx.annotation.NonNull, the members that kits use. Source: androidx.annotation 1.11.0.
package androidx.annotation;

public @interface NonNull {}
