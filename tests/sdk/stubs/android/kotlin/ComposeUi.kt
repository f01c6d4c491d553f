// Stubs of androidx.compose.ui, the members that kits use. Source: androidx.compose of the BOM 2026.09.00, by its reference at
// developer.android.com.
package androidx.compose.ui

interface Modifier {
    companion object : Modifier
}
