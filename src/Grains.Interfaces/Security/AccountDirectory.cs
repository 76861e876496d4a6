namespace GpuTasks.Security;

/// <summary>Kind of a key. Numbers never change.</summary>
public enum AccountKeyKind
{
    /// <summary>Id and secret, for signatures.</summary>
    Access = 0,

    /// <summary>One text, sent as bearer.</summary>
    Api = 1,
}

/// <summary>A key of an account.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.AccountKey")]
public sealed record AccountKey
{
    /// <summary>Id: letters, digits, <c>-</c>, <c>_</c>, <c>.</c>; unique over all accounts. For a signature it is the access key id.</summary>
    [Id(0)] public required string Id { get; init; }

    /// <summary>What it is for.</summary>
    [Id(1)] public AccountKeyKind Kind { get; init; }

    /// <summary>Secret of an access key, which signatures are checked with; null for an API key.</summary>
    [Id(2), Secret] public string? Secret { get; init; }

    /// <summary>Lower-case hex SHA-256 of an API key, which itself is kept nowhere; null for an access key.</summary>
    [Id(3)] public string? Hash { get; init; }

    /// <summary>True while it opens nothing.</summary>
    [Id(4)] public bool Disabled { get; init; }

    /// <summary>When it was made.</summary>
    [Id(5)] public DateTimeOffset CreatedAt { get; init; }

    /// <summary>From when on it opens nothing; null for never.</summary>
    [Id(6)] public DateTimeOffset? ExpiresAt { get; init; }

    /// <summary>Whether it opens its account now.</summary>
    public bool IsValidAt(DateTimeOffset now) => !Disabled && (ExpiresAt is null || now < ExpiresAt);

    /// <inheritdoc />
    public override string ToString() => $"{Kind} key {Id}";
}

/// <summary>What an operator sets of an account.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.AccountSettings")]
public sealed record AccountSettings
{
    /// <summary>For people: at most 128 characters.</summary>
    [Id(0)] public string Name { get; init; } = "";

    /// <summary>True while none of its keys opens anything, those of a gateway's keys file included.</summary>
    [Id(1)] public bool Disabled { get; init; }

    /// <summary>Requests that each gateway takes of it in a second, on average: 1 to 1,000,000; null for the gateway's default.</summary>
    [Id(2)] public int? RequestsPerSecond { get; init; }

    /// <summary>Requests that may come at once after a pause: 1 to 1,000,000; null for twice the rate.</summary>
    [Id(3)] public int? RequestBurst { get; init; }
}

/// <summary>An account and its keys.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.AccountRecord")]
public sealed record AccountRecord
{
    /// <summary>Id: 1 to 64 letters, digits, <c>-</c>, <c>_</c>.</summary>
    [Id(0)] public required string Id { get; init; }

    /// <summary>What an operator set.</summary>
    [Id(1)] public AccountSettings Settings { get; init; } = new();

    /// <summary>Its keys, oldest first; at most 20.</summary>
    [Id(2)] public IReadOnlyList<AccountKey> Keys { get; init; } = [];

    /// <summary>When it was made.</summary>
    [Id(3)] public DateTimeOffset CreatedAt { get; init; }

    /// <summary>When it or one of its keys was last changed.</summary>
    [Id(4)] public DateTimeOffset ModifiedAt { get; init; }
}

/// <summary>All accounts at one moment.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.AccountDirectory")]
public sealed record AccountDirectory
{
    /// <summary>Grows with each change; 0 while there was none.</summary>
    [Id(0)] public long Version { get; init; }

    /// <summary>By id, ascending.</summary>
    [Id(1)] public IReadOnlyList<AccountRecord> Accounts { get; init; } = [];
}
