using System.Globalization;
using System.Runtime.CompilerServices;
using GpuTasks.Store;
using Orleans.Storage;

namespace GpuTasks.Storage;

/// <summary>
/// The Orleans storage provider with its writes committed in groups. Same table, same versions: reads and clears are the
/// provider's own, and rows written by either are the other's too.
/// </summary>
internal sealed class GroupCommitStorage(IGrainStorage provider, BlobParts parts, GroupCommitter committer, SystemTextJsonStorageSerializer serializer)
    : BlobStorage(provider, parts)
{
    // What the last write of an activation put into the index, and under which ETag. Goes with the activation.
    private readonly ConditionalWeakTable<object, Written> written = [];

    public override async Task WriteStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState, CancellationToken cancellationToken)
    {
        if (!IsKeptByText(stateName, grainId))
        {
            await base.WriteStateAsync(stateName, grainId, grainState, cancellationToken);
            return;
        }

        var key = grainId.Key.ToString()!;
        var index = (grainState.State as IIndexed)?.Index;
        if (!IsText(key) || (index is not null && !IsText(index)))
        {
            throw new ArgumentException($"The row of {grainId} holds characters that a database cannot store in a key.", nameof(grainId));
        }

        var etag = grainState.ETag;
        var (state, blobs) = Parts.Split(key, grainState.State);
        var row = new RowWrite(
            stateName,
            key,
            string.IsNullOrEmpty(etag) ? null : int.Parse(etag, CultureInfo.InvariantCulture),
            serializer.SerializeToBytes(state),
            index,
            written.TryGetValue(grainState, out var last) && last.ETag == etag && last.Index == index,
            blobs);

        // The token guards the wait for a place in the queue. From then on the write runs to its end.
        var done = await committer.EnqueueAsync(row, cancellationToken);
        if (await done is not { } version)
        {
            throw new InconsistentStateException($"The row of {grainId} is not at version {etag ?? "none"}: another activation wrote it.", "unknown", etag ?? "");
        }

        grainState.ETag = version.ToString(CultureInfo.InvariantCulture);
        grainState.RecordExists = true;
        Parts.Written(blobs);
        written.AddOrUpdate(grainState, new Written(grainState.ETag, index));
    }

    /// <summary>
    /// The provider stores a key that reads as a number or GUID in number columns, and shortens a state name that looks like
    /// a type name. Those rows are left to it.
    /// </summary>
    private static bool IsKeptByText(string stateName, GrainId grainId) =>
        stateName.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_')
        && !grainId.TryGetIntegerKey(out _, out _)
        && !grainId.TryGetGuidKey(out _, out _);

    private static bool IsText(IndexColumns index) =>
        IsText(index.Account) && IsText(index.Function) && IsText(index.TaskId) && IsText(index.Qualifier) && IsText(index.Line) && IsText(index.Status);

    private static bool IsText(string? text) => text is null || KeyRange.IsPossible(text);

    private sealed record Written(string ETag, IndexColumns? Index);
}
