using System.Collections.Concurrent;
using GpuTasks.Functions;

namespace GpuTasks.Gateway.Http;

/// <summary>
/// Definitions as they were at most a second ago, so that a submit needs no call for its function. Keys start with the
/// account, so nobody finds another's. What this gateway changes it forgets at once; that there is no function is never kept.
/// A task that slips in after its function's deletion becomes Invalid in its queue.
/// </summary>
internal sealed class FunctionCache(IGrainFactory grains, TimeProvider clock)
{
    /// <summary>Counted from the moment of the question, so that no answer is ever older.</summary>
    private static readonly TimeSpan MaxAge = TimeSpan.FromSeconds(1);

    private const int MaxEntries = 10_000;

    private readonly ConcurrentDictionary<string, Entry> entries = new(StringComparer.Ordinal);

    /// <summary>The function, or null if there is none.</summary>
    /// <param name="key"><c>{account}/{function}</c>.</param>
    public Task<FunctionSnapshot?> GetAsync(string key) =>
        entries.TryGetValue(key, out var known) && clock.GetElapsedTime(known.AskedAt) < MaxAge ? known.Answer : AskAsync(key);

    /// <summary>Makes the next caller ask again.</summary>
    public void Forget(string key) => entries.TryRemove(key, out _);

    private async Task<FunctionSnapshot?> AskAsync(string key)
    {
        if (entries.Count >= MaxEntries)
        {
            entries.Clear();
        }

        var entry = new Entry(clock.GetTimestamp(), grains.Get<IFunctionGrain>(key).Get(CancellationToken.None));
        entries[key] = entry;
        try
        {
            if (await entry.Answer is { } function)
            {
                return function;
            }
        }
        catch
        {
            entries.TryRemove(KeyValuePair.Create(key, entry));
            throw;
        }

        entries.TryRemove(KeyValuePair.Create(key, entry));
        return null;
    }

    private sealed record Entry(long AskedAt, Task<FunctionSnapshot?> Answer);
}
