using GpuTasks.Store;

namespace GpuTasks.Storage;

/// <summary>Blobs in a table beside the rows.</summary>
internal sealed class BlobTable(StoreDatabase database) : IBlobStore
{
    public async Task WriteAsync(BlobName name, ReadOnlyMemory<byte> data, CancellationToken cancellationToken) => await database.QueryAsync(
        "insert into grain_blob (key, id, data) values (@key, @id, @data)",
        [("key", name.Key), ("id", name.Id), ("data", data.ToArray())],
        _ => 0,
        cancellationToken);

    public async Task<byte[]?> ReadAsync(BlobName name, CancellationToken cancellationToken) => (await database.QueryAsync(
        "select data from grain_blob where key = @key and id = @id",
        [("key", name.Key), ("id", name.Id)],
        r => r.GetFieldValue<byte[]>(0),
        cancellationToken)).FirstOrDefault();
}
