namespace GpuTasks.Store;

/// <summary>The store could not take a change for now, and nothing of it was written. Repeat it later with the same id.</summary>
/// <param name="message">What stood in the way.</param>
[GenerateSerializer, Alias("GpuTasks.StoreUnavailableException")]
public sealed class StoreUnavailableException(string message) : Exception(message);
