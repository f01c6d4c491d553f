// Stub of org.json.JSONObject, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package org.json;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;

public class JSONObject {
    public static final Object NULL = new Object() {
        @Override
        public String toString() {
            return "null";
        }
    };

    private final Map<String, Object> values = new LinkedHashMap<>();

    public JSONObject put(String name, int value) throws JSONException {
        values.put(name, value);
        return this;
    }

    public JSONObject put(String name, boolean value) throws JSONException {
        values.put(name, value);
        return this;
    }

    public JSONObject put(String name, double value) throws JSONException {
        values.put(name, value);
        return this;
    }

    public JSONObject put(String name, Object value) throws JSONException {
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
