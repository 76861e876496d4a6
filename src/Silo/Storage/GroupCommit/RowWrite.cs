using GpuTasks.Store;

namespace GpuTasks.Storage;

/// <summary>One grain's write on its way into a flush.</summary>
internal sealed class RowWrite(string kind, string key, int? version, byte[] payload, IndexColumns? index, bool indexUnchanged, IReadOnlyList<NewBlob>? blobs = null, RowGroup? group = null)
{
    private readonly TaskCompletionSource<int?>? done = group is null ? new(TaskCreationOptions.RunContinuationsAsynchronously) : null;

    /// <summary>State name.</summary>
    public string Kind => kind;

    /// <summary>Grain key.</summary>
    public string Key => key;

    /// <summary>Version that the row must have, or null if there must be no row.</summary>
    public int? Version => version;

    /// <summary>The state.</summary>
    public byte[] Payload => payload;

    /// <summary>Index columns, or null for a state without them.</summary>
    public IndexColumns? Index => index;

    /// <summary>True if the row of this version is known to have these index columns already.</summary>
    public bool IndexUnchanged => indexUnchanged;

    /// <summary>Blobs that the state names and that are written with it, if it is.</summary>
    public IReadOnlyList<NewBlob> Blobs => blobs ?? [];

    /// <summary>What the row adds to a flush.</summary>
    public long Bytes => payload.Length + Blobs.Sum(blob => (long)blob.Data.Length);

    /// <summary>New version of the row, or null if it had another version than expected. One of a group has none: the group tells.</summary>
    public Task<int?> Done => done!.Task;

    /// <summary>For one of a group, once the group is done: its new version, or null.</summary>
    public int? NewVersion { get; private set; }

    /// <summary>For one of a group, once the group is done: why it failed, or null.</summary>
    public Exception? Fault { get; private set; }

    public void Finish(int? newVersion)
    {
        NewVersion = newVersion;
        done?.TrySetResult(newVersion);
        group?.FinishOne();
    }

    public void Fail(Exception e)
    {
        Fault = e;
        done?.TrySetException(e);
        group?.FinishOne();
    }
}

/// <summary>Rows of one caller who waits for all of them, so that thousands wake it once.</summary>
internal sealed class RowGroup(int count)
{
    private readonly TaskCompletionSource done = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int left = count;

    /// <summary>Completes when every row was written or has failed.</summary>
    public Task Done => done.Task;

    public void FinishOne()
    {
        if (Interlocked.Decrement(ref left) == 0)
        {
            done.SetResult();
        }
    }
}
