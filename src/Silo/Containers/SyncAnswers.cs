using System.Collections.Concurrent;
using GpuTasks.Nodes;

namespace GpuTasks.Containers;

/// <summary>Answers of synchronous calls until they are fetched: on disk, so that they cost no memory and outlive the agent.</summary>
internal sealed class SyncAnswers
{
    private static readonly TimeSpan AfterGiven = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan AfterEnd = TimeSpan.FromMinutes(10);
    private readonly string root;
    private readonly TimeProvider time;
    private readonly ConcurrentDictionary<string, Entry> entries = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, TaskCompletionSource> waiters = new(StringComparer.Ordinal);

    public SyncAnswers(string dataDirectory, TimeProvider time)
    {
        this.time = time;
        root = Path.Combine(dataDirectory, "answers");
        DiskFiles.MakeFolder(root, DiskFiles.PrivateFolder);
        foreach (var file in Directory.EnumerateFiles(root, "*.json"))
        {
            entries[Path.GetFileNameWithoutExtension(file)] = new Entry(time.GetTimestamp(), null);
        }
    }

    /// <summary>Keeps an answer and wakes who waits for it.</summary>
    public void Keep(RunReport report)
    {
        File.WriteAllBytes(BodyOf(report.RunId), report.Response);
        DiskFiles.Save(HeadOf(report.RunId), report with { Response = [] });
        entries[report.RunId] = new Entry(time.GetTimestamp(), null);
        if (waiters.TryRemove(report.RunId, out var waiter))
        {
            waiter.TrySetResult();
        }
    }

    /// <summary>Waits for an answer; null if it has not come in time.</summary>
    public async Task<RunReport?> AwaitAsync(string runId, TimeSpan wait, CancellationToken cancellationToken)
    {
        if (!SafeName.IsValid(runId, 200))
        {
            return null;
        }

        var waiter = waiters.GetOrAdd(runId, _ => new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        if (!entries.ContainsKey(runId))
        {
            try
            {
                await waiter.Task.WaitAsync(wait, time, cancellationToken);
            }
            catch (TimeoutException)
            {
                // Nobody may ever ask again; others who share it get an early "not yet".
                waiters.TryRemove(KeyValuePair.Create(runId, waiter));
                waiter.TrySetResult();
                return null;
            }
        }

        waiters.TryRemove(runId, out _);
        if (DiskFiles.Load<RunReport>(HeadOf(runId)) is not { } report)
        {
            return null;
        }

        entries.AddOrUpdate(runId, _ => new Entry(time.GetTimestamp(), time.GetTimestamp()), (_, entry) => entry with { GivenAt = entry.GivenAt ?? time.GetTimestamp() });
        return report with { Response = await File.ReadAllBytesAsync(BodyOf(runId), cancellationToken) };
    }

    /// <summary>Forgets what was given a minute ago, and what nobody fetched in ten.</summary>
    public void Trim()
    {
        foreach (var (runId, entry) in entries)
        {
            if (time.GetElapsedTime(entry.EndedAt) > AfterEnd || (entry.GivenAt is { } given && time.GetElapsedTime(given) > AfterGiven))
            {
                entries.TryRemove(runId, out _);
                File.Delete(HeadOf(runId));
                File.Delete(BodyOf(runId));
            }
        }
    }

    private string HeadOf(string runId) => Path.Combine(root, runId + ".json");

    private string BodyOf(string runId) => Path.Combine(root, runId + ".body");

    private sealed record Entry(long EndedAt, long? GivenAt);
}
