// Stub of org.json.JSONException, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package org.json;

public class JSONException extends Exception {
    public JSONException(String s) {
        super(s);
    }
}
