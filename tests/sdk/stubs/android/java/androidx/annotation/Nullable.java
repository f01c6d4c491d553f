// Stub of androidx.annotation.Nullable, the members that kits use. Source: androidx.annotation 1.11.0.
package androidx.annotation;

public @interface Nullable {}
