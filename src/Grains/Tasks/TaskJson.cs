using System.Text.Json.Serialization;

namespace GpuTasks.Tasks;

/// <summary>JSON text of an event's detail, in the contract's spelling.</summary>
/// <param name="Error">Outcome class.</param>
/// <param name="Message">For people.</param>
internal sealed record EventDetail(string Error, string Message);

/// <summary>Serializers of small texts inside task records.</summary>
[JsonSerializable(typeof(EventDetail))]
internal sealed partial class TaskJson : JsonSerializerContext;
