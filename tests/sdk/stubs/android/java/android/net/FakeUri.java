package android.net;

/** An address; Android has no such class. */
public final class FakeUri extends Uri {}
