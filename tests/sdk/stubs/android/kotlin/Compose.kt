// Stubs of Jetpack Compose and of what binds it to activities and lifecycles, the members that kits use; nothing is shown.
// Source: androidx.compose of the BOM 2026.09.00, androidx.activity 1.13.0 and androidx.lifecycle 2.11.0, by their reference at
// developer.android.com. Compose's compiler plugin is not applied: functions are called as they are.
@file:Suppress("UNUSED_PARAMETER")

package androidx.compose.runtime

import kotlin.reflect.KProperty
import kotlinx.coroutines.CoroutineScope

@Retention(AnnotationRetention.BINARY)
@Target(
    AnnotationTarget.FUNCTION,
    AnnotationTarget.TYPE,
    AnnotationTarget.TYPE_PARAMETER,
    AnnotationTarget.PROPERTY_GETTER,
)
annotation class Composable

interface State<out T> {
    val value: T
}

interface MutableState<T> : State<T> {
    override var value: T
}

interface SnapshotMutationPolicy<T>

fun <T> structuralEqualityPolicy(): SnapshotMutationPolicy<T> = TODO("stub")

fun <T> mutableStateOf(value: T, policy: SnapshotMutationPolicy<T> = structuralEqualityPolicy()): MutableState<T> = TODO("stub")

operator fun <T> State<T>.getValue(thisObj: Any?, property: KProperty<*>): T = value

operator fun <T> MutableState<T>.setValue(thisObj: Any?, property: KProperty<*>, value: T) {
    this.value = value
}

@Composable
fun <T> remember(calculation: @Composable () -> T): T = calculation()

@Composable
fun LaunchedEffect(key1: Any?, block: suspend CoroutineScope.() -> Unit) {}

abstract class CompositionContext internal constructor()

abstract class CompositionLocal<T> internal constructor() {
    val current: T
        @Composable get() = TODO("stub")
}

abstract class ProvidableCompositionLocal<T> internal constructor() : CompositionLocal<T>()

internal fun <T> local(): ProvidableCompositionLocal<T> = object : ProvidableCompositionLocal<T>() {}
