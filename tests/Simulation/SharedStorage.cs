using System.Collections.Concurrent;
using System.Text.Json;
using Orleans.Storage;

namespace GpuTasks.Simulation;

/// <summary>Compare-and-set storage that outlives activations and silos, keeps rows as JSON, and fails on request.</summary>
public sealed class SharedStorage : IGrainStorage
{
    private readonly ConcurrentDictionary<(string State, GrainId Id), (string Json, int Version, object? State)> rows = new();
    private int writes;

    /// <summary>Called before each write with the number of the write; what it throws, the writer gets.</summary>
    public Action<int, GrainId>? BeforeWrite { get; set; }

    public int Writes => writes;

    public ICollection<(string State, GrainId Id)> Keys => rows.Keys;

    /// <summary>The rows of one kind as they were written.</summary>
    public IReadOnlyList<T> Rows<T>() => [.. rows.Values.Select(row => row.State).OfType<T>()];

    public Task ReadStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
    {
        grainState.RecordExists = rows.TryGetValue((stateName, grainId), out var row);
        grainState.State = grainState.RecordExists ? JsonSerializer.Deserialize<T>(row.Json)! : Activator.CreateInstance<T>();
        grainState.ETag = grainState.RecordExists ? row.Version.ToString() : null;
        return Task.CompletedTask;
    }

    public Task WriteStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
    {
        BeforeWrite?.Invoke(Interlocked.Increment(ref writes), grainId);
        var key = (stateName, grainId);
        var json = JsonSerializer.Serialize(grainState.State);
        var next = grainState.ETag is null ? 1 : int.Parse(grainState.ETag) + 1;
        var written = grainState.ETag is null
            ? rows.TryAdd(key, (json, next, grainState.State))
            : rows.TryGetValue(key, out var row) && row.Version == next - 1 && rows.TryUpdate(key, (json, next, grainState.State), row);
        if (!written)
        {
            throw new InconsistentStateException($"{key} is not at version {grainState.ETag ?? "none"}.");
        }

        grainState.ETag = next.ToString();
        grainState.RecordExists = true;
        return Task.CompletedTask;
    }

    public Task ClearStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
    {
        rows.TryRemove((stateName, grainId), out _);
        grainState.ETag = null;
        grainState.RecordExists = false;
        return Task.CompletedTask;
    }
}
