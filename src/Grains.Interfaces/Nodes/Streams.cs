namespace GpuTasks.Nodes;

/// <summary>What stands before the body of a streamed answer.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.AnswerHead")]
public sealed record AnswerHead
{
    /// <summary>HTTP status as the function gave it; not checked.</summary>
    [Id(0)] public required int StatusCode { get; init; }

    /// <summary>Headers: at most 16 KiB together.</summary>
    [Id(1)] public IReadOnlyList<HttpField> Headers { get; init; } = [];
}

/// <summary>A part of a streamed answer; all members empty if none has come yet.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.AnswerPart")]
public sealed record AnswerPart
{
    /// <summary>What stands before the body, once the answer has begun.</summary>
    [Id(0)] public AnswerHead? Head { get; init; }

    /// <summary>Bytes from the position that was asked for on: at most 256 KiB.</summary>
    [Id(1)] public byte[] Data { get; init; } = [];

    /// <summary>How the run ended, with the rest of its answer, once it has.</summary>
    [Id(2)] public RunReport? Report { get; init; }
}

/// <summary>A part of a body that follows its order.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.BodyPart")]
public sealed record BodyPart
{
    /// <summary>Position of its first byte in the body.</summary>
    [Id(0)] public required long From { get; init; }

    /// <summary>At most 256 KiB.</summary>
    [Id(1)] public required byte[] Data { get; init; }

    /// <summary>True if the body ends with it.</summary>
    [Id(2)] public required bool Last { get; init; }
}

/// <summary>How far a body has come.</summary>
/// <param name="Received">Position up to which it needs not be sent again.</param>
/// <param name="Closed">True if nobody reads it any more: the run has ended, or the function has answered without it.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.BodyReceipt")]
public sealed record BodyReceipt(
    [property: Id(0)] long Received,
    [property: Id(1)] bool Closed);
