namespace GpuTasks.Storage;

/// <summary>What is known about rows whose write failed.</summary>
internal enum WriteFault
{
    /// <summary>Nothing was written, and a row of the batch may be the cause: each may be tried alone.</summary>
    Row = 0,

    /// <summary>Nothing was written, and no other row would fare better now.</summary>
    Database = 1,

    /// <summary>It may have been written or not.</summary>
    Unknown = 2,
}

/// <summary>A write that failed, and what is known about it.</summary>
internal sealed class RowSinkException(WriteFault fault, Exception cause) : Exception(cause.Message, cause)
{
    public WriteFault Fault => fault;
}

/// <summary>Writes rows into one kind of database. Used by one thread only, which it may block.</summary>
internal interface IRowSink : IDisposable
{
    /// <summary>Writes all rows in one transaction.</summary>
    /// <param name="rows">No two of the same kind and key.</param>
    /// <returns>For each row its new version, or null if it had another version than expected.</returns>
    /// <exception cref="RowSinkException">Nothing is known to be written.</exception>
    int?[] Write(IReadOnlyList<RowWrite> rows);

    /// <summary>Writes one row in a transaction of its own.</summary>
    /// <exception cref="RowSinkException">Nothing is known to be written.</exception>
    int? Write(RowWrite row);
}
