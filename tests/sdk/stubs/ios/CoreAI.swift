// CoreAI, the framework that apps import: its declarations lie in modules of their own, CoreAIRuntime and CoreAIDelegates,
// as the identifiers in Apple's documentation say (`s:13CoreAIRuntime7NDArrayV`). Sources: CoreAIRuntime.swift.

@_exported import CoreAIDelegates
@_exported import CoreAIRuntime
