// Stub of org.json.JSONObject, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package org.json;

import androidx.annotation.NonNull;
import androidx.annotation.Nullable;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;

public class JSONObject {
    @NonNull public static final Object NULL = new Object() {
        @Override
        public String toString() {
            return "null";
        }
    };

    private final Map<String, Object> values = new LinkedHashMap<>();

    @NonNull
    public JSONObject put(@NonNull String name, int value) throws JSONException {
        values.put(name, value);
        return this;
    }

    @NonNull
    public JSONObject put(@NonNull String name, @Nullable Object value) throws JSONException {
        values.put(name, value);
        return this;
    }

    @Override
    public String toString() {
        return values.entrySet().stream()
                .map(entry -> text(entry.getKey()) + ":" + text(entry.getValue()))
                .collect(Collectors.joining(",", "{", "}"));
    }

    static String text(Object value) {
        return value instanceof String ? '"' + value.toString() + '"' : value.toString();
    }
}
