import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.jetbrains.kotlin.cli.jvm.K2JVMCompiler;

/** Kotlin's compiler in one process, for it is fast once it is warm. A request is a line of arguments with tabs between them;
 * the answer is a line of the exit code and of the number of bytes of what the compiler says, and then those. Answers go to
 * the file of the only argument, where nothing else writes. */
public final class KotlinServer {
    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(new FileOutputStream(arguments[0]), false, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            ByteArrayOutputStream said = new ByteArrayOutputStream();
            PrintStream messages = new PrintStream(said, true, StandardCharsets.UTF_8);
            int code = new K2JVMCompiler().exec(messages, line.split("\t")).getCode();
            out.println(code + " " + said.size());
            said.writeTo(out);
            out.flush();
        }
    }
}
