using GpuTasks.Store;

namespace GpuTasks.Storage;

/// <summary>One grain's write on its way into a flush.</summary>
internal sealed class RowWrite(string kind, string key, int? version, byte[] payload, IndexColumns? index, bool indexUnchanged, IReadOnlyList<NewBlob>? blobs = null)
{
    private readonly TaskCompletionSource<int?> done = new(TaskCreationOptions.RunContinuationsAsynchronously);

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

    /// <summary>New version of the row, or null if it had another version than expected.</summary>
    public Task<int?> Done => done.Task;

    public void Finish(int? newVersion) => done.TrySetResult(newVersion);

    public void Fail(Exception e) => done.TrySetException(e);
}
