// Stub of androidx.test.ext.junit.runners.AndroidJUnit4, the members that kits use.
// Source: AndroidX Test: ext:junit 1.3.0 and runner 1.7.0, by their reference at developer.android.com.
package androidx.test.ext.junit.runners;

import org.junit.runner.Runner;

public final class AndroidJUnit4 extends Runner {}
