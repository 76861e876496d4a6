namespace GpuTasks.Gateway;

/// <summary>Settings of the gateway: section <c>GpuTasks:Gateway</c>. Faults are all told at start.</summary>
public sealed class GatewayOptions
{
    /// <summary>Where the options are found in the configuration.</summary>
    public const string Section = "GpuTasks:Gateway";

    /// <summary>Region that ARNs name and whose quota and nodes are asked for: 1 to 64 letters, digits, <c>-</c>; default <c>local-1</c>.</summary>
    public string Region { get; set; } = "local-1";

    /// <summary>File with accounts, access keys, API keys and the operator key; required. Read again when it changes.</summary>
    public string KeysFile { get; set; } = "";

    /// <summary>Longest body of an asynchronous call: 1 to 262,144 bytes, default 131,072 (contract 3).</summary>
    public int MaxAsyncPayloadBytes { get; set; } = 131_072;

    /// <summary>Longest body of a synchronous call: 1 to 33,554,432 bytes, which is also the default (contract 3).</summary>
    public int MaxSyncPayloadBytes { get; set; } = 33_554_432;

    /// <summary>Longest body of every other call: 1,024 to 16,777,216 bytes, default 1,048,576.</summary>
    public int MaxManagementBodyBytes { get; set; } = 1_048_576;

    /// <summary>Longest body of a batch of tasks: 1,024 to 268,435,456 bytes, default 33,554,432.</summary>
    public int MaxBatchBodyBytes { get; set; } = 33_554_432;

    /// <summary>Bytes of request bodies held at once, over all callers: 33,554,432 to 17,179,869,184, default 536,870,912. Beyond it callers are asked to come back.</summary>
    public long MaxBufferedBytes { get; set; } = 536_870_912;

    /// <summary>Most that a signature's date may differ from our clock: 1 to 60 min, default 15 (contract 9).</summary>
    public int SignatureSkewMinutes { get; set; } = 15;

    /// <summary>Nonces remembered for each access key: 1,000 to 5,000,000, default 200,000 (about 8 MB). A busier key sees its skew shrink instead.</summary>
    public int NonceWindow { get; set; } = 200_000;

    /// <summary>
    /// Whether a nonce used at one gateway is refused at the others too, for calls that change something: one more call inside the
    /// cluster for each. Default true; false suits a single gateway.
    /// </summary>
    public bool SharedNonces { get; set; } = true;

    /// <summary>Whether the older signature (HMAC-SHA1, which does not cover the body) is taken; default true.</summary>
    public bool AllowOlderSignature { get; set; } = true;

    /// <summary>Requests that this gateway takes of one account in a second, on average: 1 to 1,000,000, or 0 for no limit, the default. An account's own limit comes first.</summary>
    public int RequestsPerSecond { get; set; }

    /// <summary>Address at which callers reach HTTP triggers, such as <c>https://gpu.example.org</c>; default: the one that the trigger was asked for at.</summary>
    public string PublicUrl { get; set; } = "";

    /// <summary>True refuses a function whose card type no node of the region has, now or when it was last heard of; default false: its tasks wait for one.</summary>
    public bool StrictCardTypes { get; set; }

    /// <summary>How long a synchronous call may wait for a slot beyond its function's timeout: 0 to 3,600 s, default 60.</summary>
    public int SyncQueueSeconds { get; set; } = 60;
}
