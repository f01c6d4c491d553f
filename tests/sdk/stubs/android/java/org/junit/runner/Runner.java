// Stub of org.junit.runner.Runner, the members that kits use. Source: JUnit 4.13.2, by its API documentation.
package org.junit.runner;

public abstract class Runner {}
