using System.Runtime.CompilerServices;
using GpuTasks.Store;

namespace GpuTasks.Storage;

/// <summary>A blob on its way into the store.</summary>
internal sealed record NewBlob(BlobName Name, byte[] Data);

/// <summary>
/// Takes large parts out of states that are written and puts them back into states that are read. An array that is known to
/// stand in a blob is not written again, so a change of a task costs the same whatever its payload.
/// </summary>
internal sealed class BlobParts(IBlobStore blobs)
{
    /// <summary>Longest part that stays in its row.</summary>
    public const int MaxInRow = 32 * 1024;

    // Goes with the array, whoever holds it.
    private readonly ConditionalWeakTable<byte[], NewBlob> known = [];

    /// <returns>The state as its row has it, and the blobs that are not in the store yet.</returns>
    public (T? State, IReadOnlyList<NewBlob> Blobs) Split<T>(string key, T? state)
    {
        if (state is not IHasBlobs<T> whole)
        {
            return (state, []);
        }

        Dictionary<string, string>? ids = null;
        List<NewBlob> added = [];
        foreach (var (part, data) in whole.Parts)
        {
            if (data.Length <= MaxInRow)
            {
                continue;
            }

            if (!known.TryGetValue(data, out var blob) || blob.Name.Key != key)
            {
                blob = new NewBlob(new BlobName(key, Guid.NewGuid().ToString("N")), data);
                added.Add(blob);
            }

            (ids ??= [])[part] = blob.Name.Id;
        }

        return ids is null ? (state, []) : (whole.WithoutParts(ids), added);
    }

    /// <summary>To be called once the row that names them is written.</summary>
    public void Written(IReadOnlyList<NewBlob> added)
    {
        foreach (var blob in added)
        {
            known.AddOrUpdate(blob.Data, blob);
        }
    }

    /// <summary>Makes the state that was read whole.</summary>
    /// <returns>False if a blob is gone, as when its row was just purged.</returns>
    public async Task<bool> JoinAsync<T>(string key, IGrainState<T> row, CancellationToken cancellationToken)
    {
        if (row.State is not IHasBlobs<T> { Blobs: { } ids } state)
        {
            return true;
        }

        var parts = new Dictionary<string, byte[]>();
        foreach (var (part, id) in ids)
        {
            var name = new BlobName(key, id);
            if (await blobs.ReadAsync(name, cancellationToken) is not { } data)
            {
                return false;
            }

            parts.Add(part, data);
            known.AddOrUpdate(data, new NewBlob(name, data));
        }

        row.State = state.WithParts(parts);
        return true;
    }

    /// <summary>Writes blobs by themselves.</summary>
    public async Task WriteAloneAsync(IReadOnlyList<NewBlob> added, CancellationToken cancellationToken)
    {
        foreach (var blob in added)
        {
            await blobs.WriteAsync(blob.Name, blob.Data, cancellationToken);
        }
    }
}
