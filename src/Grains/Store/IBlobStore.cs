namespace GpuTasks.Store;

/// <summary>Names one blob: the row that it belongs to, and an id that is never used twice, so that a blob never changes.</summary>
/// <param name="Key">Key of the row.</param>
/// <param name="Id">Unique.</param>
public readonly record struct BlobName(string Key, string Id);

/// <summary>
/// Parts of rows that are too large to be written with every change of them. A blob is written once, no later than the first
/// version of its row that names it, and goes when its row does.
/// </summary>
public interface IBlobStore
{
    /// <summary>Writes a blob by itself, before its row. The group committer writes it in the row's own transaction instead.</summary>
    Task WriteAsync(BlobName name, ReadOnlyMemory<byte> data, CancellationToken cancellationToken);

    /// <summary>The blob, or null if there is none.</summary>
    Task<byte[]?> ReadAsync(BlobName name, CancellationToken cancellationToken);
}

/// <summary>A state with parts that may be too large for its row. Arrays that it once held are never written to.</summary>
/// <typeparam name="T">The state.</typeparam>
public interface IHasBlobs<out T>
{
    /// <summary>Ids of the blobs that hold the parts left out of the row, by part; null if none is left out.</summary>
    IReadOnlyDictionary<string, string>? Blobs { get; }

    /// <summary>Every part that may be large, by a name that rows contain.</summary>
    IEnumerable<KeyValuePair<string, byte[]>> Parts { get; }

    /// <summary>The state as its row has it.</summary>
    /// <param name="blobs">Ids of the parts that are left out.</param>
    T WithoutParts(IReadOnlyDictionary<string, string> blobs);

    /// <summary>The whole state.</summary>
    /// <param name="parts">The parts that its row leaves out.</param>
    T WithParts(IReadOnlyDictionary<string, byte[]> parts);
}
