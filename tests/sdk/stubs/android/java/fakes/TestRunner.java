package fakes;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import org.junit.Test;

/** Runs every test method of the classes that are named, and says how many there were. */
public final class TestRunner {
    public static void main(String[] classes) throws ReflectiveOperationException {
        int run = 0;
        int failed = 0;
        for (String name : classes) {
            for (Method method : Class.forName(name).getDeclaredMethods()) {
                if (method.getAnnotation(Test.class) == null) continue;
                run++;
                try {
                    method.invoke(Class.forName(name).getDeclaredConstructor().newInstance());
                } catch (InvocationTargetException error) {
                    failed++;
                    System.out.println("FAILED " + name + "." + method.getName());
                    error.getCause().printStackTrace(System.out);
                }
            }
        }
        System.out.println(run + " tests run, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}
